"""`make bench`: the figures the project promises, as medians with the machine's load beside them.

Never asserted, only printed: read them with the load and the ratio in mind. Everything runs as a user would run it,
through the `propolis` command, in software emulation or whatever this host has.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from floor import bare_boot_seconds

import images
import propolis
from propolis.host import system
from propolis.host.directories import data_directory
from propolis.state.store import MachineStore

PROPOLIS = Path(sys.executable).with_name("propolis")
RUNS = 5


def main() -> None:
    """Measure and print, one line a figure."""
    image = images.busybox()
    run(image, "true")  # everything cached from here on
    print(f"{'figure':<58} {'median':>9} {'min':>9} {'max':>9}  asked")
    floor = show("bare boot of the same kernel to /init, same QEMU", "s", repeated(bare_boot_seconds))
    first = show("propolis run: call to first output", "s", repeated(lambda: first_output(image)), "<= 3.0")
    print(f"{'  ratio to the bare boot':<58} {first / floor:9.2f} {'':>19}  <= 1.5")
    whole = show("propolis run true: call to exit", "s", repeated(lambda: run(image, "true")))
    show("stop of a running machine (Machine.stop)", "s", repeated(lambda: stop_seconds(image)), "<= 0.3")
    show("exec of true in a running machine", "ms", exec_milliseconds(image))
    show("VMM resident memory, 512 MiB guest", "MiB", repeated(lambda: resident_mebibytes(image), 3), "<= 300")
    show("propolis --help, warm", "s", repeated(help_seconds, 9), "<= 0.25")
    print(f"{'  from first output to exit':<58} {whole - first:9.3f}")


def show(name: str, unit: str, values: list[float], asked: str = "") -> float:
    """Print one figure; returns its median."""
    median = statistics.median(values)
    load = os.getloadavg()[0]
    numbers = f"{median:9.3f} {min(values):9.3f} {max(values):9.3f}"
    print(f"{f'{name} [{unit}]':<58} {numbers}  {asked:<8} (n={len(values)}, load {load:.1f})", flush=True)
    return median


def repeated(measure: Callable[[], float], times: int = RUNS) -> list[float]:
    """The figure several times over."""
    return [measure() for _ in range(times)]


def run(image: str, *command: str) -> float:
    """Seconds of a whole `propolis run`."""
    before = time.perf_counter()
    subprocess.run([PROPOLIS, "run", "-q", image, *command], check=True)
    return time.perf_counter() - before


def first_output(image: str) -> float:
    """Seconds from the call to the first byte that the workload prints."""
    before = time.perf_counter()
    with subprocess.Popen([PROPOLIS, "run", "-q", image, "echo", "x"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        return time.perf_counter() - before


def help_seconds() -> float:
    """Seconds of `propolis --help`."""
    before = time.perf_counter()
    subprocess.run([PROPOLIS, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - before


def stop_seconds(image: str) -> float:
    """Seconds of `stop` with a workload that ends at SIGTERM."""
    machine = propolis.Machine.start(image, ["sleep", "600"])
    before = time.perf_counter()
    machine.stop()
    return time.perf_counter() - before


def exec_milliseconds(image: str) -> list[float]:
    """Milliseconds of one exec, thirty times in one machine."""
    with propolis.Machine.start(image, ["sleep", "600"]) as machine:
        values = []
        for _ in range(30):
            before = time.perf_counter()
            machine.exec(["true"])
            values.append((time.perf_counter() - before) * 1000)
        return values


def resident_mebibytes(image: str) -> float:
    """Resident memory of the process that is the machine, a second after the workload began."""
    with propolis.Machine.start(image, ["sleep", "600"]) as machine:
        time.sleep(1)
        (pid,) = [record.vmm.pid for record in MachineStore(data_directory()).list() if record.id == machine.id]
        return system.resident_bytes(pid) / (1 << 20)


if __name__ == "__main__":
    main()
