"""What a running machine does, as figures: calls, bytes out, copies in and out, many calls at once."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio

import propolis

EXECS = 400
AT_ONCE = 200
ROUNDS = 3
PRINTED = 256 << 20
FILE = 128 << 20
FILES, FILE_SIZE, DIRECTORIES = 5000, 1000, 50


@dataclass(frozen=True, slots=True)
class Figure:
    """Some values of one thing, and what was asked for; `tail`: by its 99th percentile too."""

    name: str
    unit: str
    values: list[float]
    asked: str = ""
    tail: bool = False


def figures(image: str, scratch: Path) -> Iterator[Figure]:
    """Measure everything; `scratch` is an empty directory."""
    asked = "<= 5, p99 <= 15"
    blocking = blocking_execs(image)
    yield Figure("exec of true, Machine", "ms", blocking, asked, tail=True)
    for name, values in anyio.run(_asynchronous_execs, image).items():
        yield Figure(f"exec of true, AsyncMachine{name}", "ms", values, asked, tail=True)
    yield Figure(f"{AT_ONCE} execs at once, all outputs checked", "s", anyio.run(_execs_at_once, image))
    yield Figure("standard output of dd, taken", "MB/s", anyio.run(_output_rates, image), ">= 150")
    yield from _copies(image, scratch)


def blocking_execs(image: str) -> list[float]:
    """Milliseconds of each call."""
    with propolis.Machine.start(image, ["sleep", "600"]) as machine:
        time.sleep(0.3)
        return [_timed(lambda: machine.exec(["true"])) for _ in range(EXECS)]


def _timed(call) -> float:
    before = time.perf_counter()
    call()
    return (time.perf_counter() - before) * 1000


async def _asynchronous_execs(image: str) -> dict[str, list[float]]:
    async with propolis.AsyncMachine.start(image, ["sleep", "600"]) as machine:
        await anyio.sleep(0.3)
        taken = []
        for _ in range(EXECS):
            before = time.perf_counter()
            await machine.exec(["true"])
            taken.append((time.perf_counter() - before) * 1000)
        return {"": taken}


async def _execs_at_once(image: str) -> list[float]:
    async with propolis.AsyncMachine.start(image, ["sleep", "600"]) as machine:
        return [await _many(machine) for _ in range(ROUNDS)]


async def _many(machine: propolis.AsyncMachine) -> float:
    answers: list[str] = [""] * AT_ONCE

    async def one(number: int) -> None:
        answers[number] = (await machine.exec(["echo", str(number)])).text

    before = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for number in range(AT_ONCE):
            tasks.start_soon(one, number)
    seconds = time.perf_counter() - before
    if answers != [f"{number}\n" for number in range(AT_ONCE)]:
        raise SystemExit("an exec was lost, or got another's output")
    return seconds


async def _output_rates(image: str) -> list[float]:
    async with propolis.AsyncMachine.start(image, ["sleep", "600"]) as machine:
        return [await _output_rate(machine) for _ in range(ROUNDS)]


async def _output_rate(machine: propolis.AsyncMachine) -> float:
    process = await machine.open(["dd", "if=/dev/zero", "bs=256k", f"count={PRINTED >> 18}"])
    await process.stderr.aclose()
    before, taken = time.perf_counter(), 0
    async for piece in process.stdout:
        taken += len(piece)
    await process.wait()
    if taken != PRINTED:
        raise SystemExit(f"{taken} of {PRINTED} bytes of output came")
    return taken / 1e6 / (time.perf_counter() - before)


def _copies(image: str, scratch: Path) -> Iterator[Figure]:
    big, tree, back = scratch / "big", scratch / "tree", scratch / "back"
    big.write_bytes(os.urandom(FILE))
    for number in range(FILES):
        directory = tree / str(number % DIRECTORIES)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / str(number)).write_bytes(b"x" * FILE_SIZE)
    back.mkdir()
    taken: dict[str, list[float]] = {name: [] for name in ("big in", "big out", "small in", "small out")}
    with propolis.Machine.start(image, ["sleep", "600"]) as machine:
        for _ in range(ROUNDS):
            taken["big in"].append(FILE / 1e3 / _timed(lambda: machine.copy_in(big, "/root/big")))
            taken["big out"].append(FILE / 1e3 / _timed(lambda: machine.copy_out("/root/big", back / "big")))
            taken["small in"].append(FILES * 1e3 / _timed(lambda: machine.copy_in(tree, "/root/tree")))
            taken["small out"].append(FILES * 1e3 / _timed(lambda: machine.copy_out("/root/tree", back / "tree")))
            same = (back / "big").read_bytes() == big.read_bytes()
            if not same or sum(path.is_file() for path in (back / "tree").rglob("*")) != FILES:
                raise SystemExit("what was copied in and out is not what it was")
            machine.files.remove("/root/big")
            machine.files.remove("/root/tree", recursive=True)
            (back / "big").unlink()
            shutil.rmtree(back / "tree")
    yield Figure(f"copy in of one file of {FILE >> 20} MiB", "MB/s", taken["big in"], ">= 100")
    yield Figure("copy out of it", "MB/s", taken["big out"])
    yield Figure(f"copy in of {FILES} files of {FILE_SIZE} bytes", "files/s", taken["small in"], ">= 2000")
    yield Figure("copy out of them", "files/s", taken["small out"])
