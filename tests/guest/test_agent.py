"""The agent's C code under ASan and UBSan on this host, driven by our client: processes, builtins, hostile archives."""

import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from propolis import spec
from propolis.agent import session, wire
from propolis.agent.builtins import Builtins
from propolis.agent.client import AgentClient
from propolis.agent.files import Files
from propolis.agent.process import ExitStatus
from propolis.errors import CommandNotFound, FileError, MachineLost
from propolis.host.sockets import channel
from propolis.machine.copying import copy_in, copy_out
from trees import walk

ROOT = Path(__file__).resolve().parents[2]
BOOT = [
    *("init", "console", "transport", "mounts"),
    *("identity", "harden", "clock"),
]
LIMITS = "umask; ulimit -n; grep CapBnd /proc/self/status"
BAD_DOCUMENTS = (b"{}", b"[", b'{"cmd":[]}', b'{"cmd":["x"],"rlimits":[[1,2]]}', b"\xff" * 1000)
SEED = ROOT / "tests" / "fuzz" / "guest" / "corpus" / "archive" / "all"

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux" or shutil.which("clang") is None, reason="clang is not installed"),
    pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() != 0, reason="a process namespace needs root"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    target = tmp_path_factory.mktemp("agent") / "agent"
    sources = [path for path in (ROOT / "guest").glob("*.c") if path.stem not in BOOT]
    flags = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Werror"]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    here = Path(__file__).with_name("agent_host.c")
    subprocess.run(["clang", *flags, *sanitizers, f"-I{ROOT / 'guest'}", "-o", target, here, *sources], check=True)
    return target


@asynccontextmanager
async def served(program, tmp_path):
    """A client of an agent; the sanitizers must have had nothing to say at its end."""
    near, far = socket.socketpair()
    words = tmp_path / "words"
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", program]
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0:log_path=" + str(tmp_path / "asan")}
    with far, words.open("wb") as stderr:
        process = subprocess.Popen(  # noqa: ASYNC220 - it is there at once
            command, stdin=far, stdout=subprocess.DEVNULL, stderr=stderr, env=environment
        )
    try:
        async with AgentClient(channel(near)) as client:
            await client.hello(20)
            yield client
            with anyio.move_on_after(10):
                await client.shutdown(0)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    said = words.read_text() + "".join(path.read_text() for path in tmp_path.glob("asan.*"))
    assert "Sanitizer" not in said, said
    assert "runtime error" not in said, said


def command(*argv, **options):
    return spec.Process(argv=argv, env=("PATH=/usr/bin:/bin",), **options)


def run(program, tmp_path, main):
    async def around():
        async with served(program, tmp_path) as client:
            await main(client)

    anyio.run(around)


def test_processes_with_all_their_streams(program, tmp_path):
    async def main(client):
        data = os.urandom(3_000_000)
        process = await client.exec(command("cat"))

        async def feed():
            await process.stdin.send(data)
            await process.stdin.aclose()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed)
            assert await process.stdout.read() == data
        assert await process.wait() == ExitStatus(0)
        with pytest.raises(CommandNotFound):
            await client.exec(command("no-such-program"))
        limited = await client.exec(
            command(
                "sh",
                "-c",
                "umask; ulimit -n; grep CapBnd /proc/self/status",
                umask=0o77,
                rlimits=((7, 50, 60),),
                capabilities=1,
            )
        )
        assert (await limited.stdout.read()).split() == [b"0077", b"50", b"CapBnd:", b"0000000000000001"]
        assert (await limited.wait()).code == 0

        async def one(number):
            short = await client.exec(command("sh", "-c", f"echo {number}; exit {number % 9}"))
            assert await short.stdout.read() == b"%d\n" % number
            assert (await short.wait()).code == number % 9

        async with anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(one, number)

    run(program, tmp_path, main)


def test_builtins(program, tmp_path):
    async def main(client):
        builtins = Builtins(client, str(tmp_path))
        files = Files(builtins)
        await files.write("a", b"x" * 1_000_000)
        assert await files.read("a", offset=10, length=5) == b"xxxxx"
        await files.mkdir("d/e/f", parents=True)
        await files.rename("a", "d/e/f/b")
        assert [status.name for status in await files.list("d/e/f")] == ["b"]
        async with files.watch(str(tmp_path / "d"), recursive=True) as events:
            await files.write("d/e/new", b"")
            assert (await anext(events)).path == str(tmp_path / "d/e/new")
        await copy_in(builtins, ROOT / "guest", str(tmp_path / "copied"), "keep")
        assert await copy_out(builtins, str(tmp_path / "copied"), tmp_path / "back", preserve=True) == 0
        assert walk(tmp_path / "back") == walk(ROOT / "guest")
        await files.remove("d", recursive=True)
        with pytest.raises(FileError):
            await files.list("d")
        for argv in (("stat",), ("nonsense",), ("read", "x"), ("dial", "tcp", "", "9"), ("stats",)):
            process = await builtins.start(*argv)
            await process.stdin.aclose()
            await process.stdout.read()
            await process.wait()

    run(program, tmp_path, main)


def test_mounts_that_come_and_go(program, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").write_bytes(b"here")
    place = str(tmp_path / "link" / "new" / "place")

    async def main(client):
        builtins = Builtins(client)

        async def mount(target, access="rw", kind="tmpfs", source="", options="mode=700,size=1m"):
            return (
                (await builtins.output("mount", str(target), kind, source, options, access, most=99)).strip().decode()
            )

        async def unmount(target, number):
            await builtins.output("unmount", str(target), number, most=99)

        async def shell(line):
            process = await client.exec(command("sh", "-c", line))
            await process.stdin.aclose()
            return (await process.stdout.read()).decode().strip(), (await process.wait()).code

        number = await mount(place)
        assert await shell(f"touch {place}/x; stat -c %a {place}; stat -f -c %T {tmp_path}/real/new/place") == (
            "700\ntmpfs",
            0,
        )
        holder = await client.exec(command("sh", "-c", f"cd {place}; echo; cat"))
        assert await holder.stdout.receive() == b"\n"
        with pytest.raises(FileError) as caught:
            await unmount(place, number)
        assert caught.value.errno == errno.EBUSY
        assert "end that first" in caught.value.hint
        await holder.stdin.aclose()
        await holder.wait()

        assert await shell(f"mount -t tmpfs over {place}") == ("", 0)
        with pytest.raises(FileError) as caught:  # another's mount is not taken for ours
            await unmount(place, number)
        assert caught.value.errno == errno.EBUSY
        assert await shell(f"umount {place}") == ("", 0)
        await unmount(place, number)
        assert await shell(f"ls {place}; grep -c {place} /proc/mounts") == ("0", 1)
        await unmount(place, number)  # it is gone, whoever did it

        number = await mount(tmp_path / "ro", "ro")
        assert (await shell(f"touch {tmp_path}/ro/x"))[1] != 0
        await unmount(tmp_path / "ro", number)
        for target, kind, wrong in (("file", "tmpfs", errno.ENOTDIR), ("file/x", "tmpfs", errno.ENOTDIR)):
            with pytest.raises(FileError) as caught:
                await mount(tmp_path / target, kind=kind)
            assert caught.value.errno == wrong
        with pytest.raises(FileError) as caught:
            await mount(tmp_path / "nothing", kind="share", source="no-such-share")
        assert caught.value.filename == str(tmp_path / "nothing")
        assert await shell(f"test -e {tmp_path}/nothing; grep -c {tmp_path} /proc/mounts") == ("0", 1)

    run(program, tmp_path, main)


def test_hostile_archives(program, tmp_path):
    """Changed at random, an archive may be refused, but harms nobody, and nothing comes to lie outside."""
    random_ = random.Random(20261124)
    seed = SEED.read_bytes()
    (tmp_path / "inside").mkdir()

    async def main(client):
        builtins = Builtins(client, str(tmp_path / "inside"))
        for _ in range(150):
            data = bytearray(seed)
            for _ in range(random_.randrange(1, 12)):
                data[random_.randrange(len(data))] = random_.randrange(256)
            process = await builtins.start("extract", "x", "0:0")
            try:
                await process.stdin.send(bytes(data[: random_.randrange(len(data))]))
                await process.stdin.aclose()
            except BrokenPipeError:
                pass
            await process.stdout.read()
            assert (await process.wait()).signal == 0
        for hostile in (b"../out", b"/tmp/out", b"a/../../out"):
            header = bytearray(seed[512 * 2 : 512 * 3])
            header[:100] = hostile.ljust(100, b"\0")
            process = await builtins.start("extract", "x", "0:0")
            await process.stdin.send(bytes(header) + bytes(1024))
            await process.stdin.aclose()
            await process.stdout.read()
            assert (await process.wait()).code != 0

    run(program, tmp_path, main)
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith("asan")} == {"inside", "words"}


@pytest.mark.parametrize(
    "frame",
    [
        wire.HEADER.pack(wire.MAX_PAYLOAD + 1, 1, 0, 0, 1),
        wire.HEADER.pack(0, 77, 0, 0, 1),
        wire.HEADER.pack(0, wire.FrameType.EXEC, 4, 0, 1),
        wire.HEADER.pack(0, wire.FrameType.STDIN, 0, 7, 1),
        wire.HEADER.pack(3, wire.FrameType.PING, 0, 0, 0) + b"xxx",
        wire.HEADER.pack(3, wire.FrameType.CLOCK, 0, 0, 0) + b"xxx",
        wire.HEADER.pack(2, wire.FrameType.EXEC, 0, 0, 0) + b"{}",
    ],
)
def test_a_host_that_breaks_the_protocol_ends_it(program, tmp_path, frame):
    async def main(client):
        client.post(frame)
        with anyio.fail_after(10), pytest.raises(MachineLost):
            while True:
                await client.ping()

    run(program, tmp_path, main)


def test_documents_that_are_wrong_fail_alone(program, tmp_path):
    async def main(client):
        for number, document in enumerate(BAD_DOCUMENTS):
            client.session._last_stream += 1
            stream = client.session._last_stream
            client.session._streams[stream] = session._Stream(0)
            client.post(wire.pack(wire.FrameType.EXEC, stream, document))
            client._streams[stream] = process = _Expecting()
            with anyio.fail_after(10):
                await process.answered.wait()
            assert "not valid" in process.text, number
        process = await client.exec(command("true"))
        assert (await process.wait()).code == 0

    run(program, tmp_path, main)


class _Expecting:
    """A process that is going to fail to start."""

    def __init__(self):
        self.answered = anyio.Event()
        self.text = ""

    def take(self, event):
        self.text = event.text
        self.answered.set()

    def lost(self, error):
        raise error
