import asyncio
import os
import subprocess
import sys
import threading

import pytest

from propolis.cli import streams
from propolis.errors import PropolisError, StorageFull


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            continue


def write(descriptor, data):
    async def main():
        await asyncio.wait_for(streams.writer(descriptor)(data), 10)

    asyncio.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="pipes always block there")
def test_all_is_written_also_where_writes_do_not_block(pipe):
    reading, writing = pipe
    os.set_blocking(writing, False)
    received = bytearray()

    def take():
        while data := os.read(reading, 4096):
            received.extend(data)

    taker = threading.Thread(target=take)
    taker.start()
    write(writing, b"x" * 500_000)
    os.close(writing)
    taker.join()
    assert received == b"x" * 500_000


def test_a_reader_that_is_gone_is_a_broken_pipe(pipe):
    os.close(pipe[0])
    with pytest.raises(BrokenPipeError):
        write(pipe[1], b"x")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no /dev/full")
def test_a_full_disk_and_a_descriptor_for_reading_are_told(pipe, monkeypatch):
    monkeypatch.setattr(streams, "_NAMES", dict.fromkeys(range(100), "standard output"))
    with open("/dev/full", "wb") as full, pytest.raises(StorageFull, match="standard output"):  # noqa: PTH123
        write(full.fileno(), b"x")
    with pytest.raises(PropolisError, match="cannot be written: Bad file descriptor"):
        write(pipe[0], b"x")


def test_nobody_waits_for_a_read_that_was_given_up():
    program = (
        "import asyncio\n"
        "from propolis.cli import streams\n"
        "async def main():\n"
        "    try:\n"
        "        await asyncio.wait_for(streams.read_stdin(), 0.1)\n"
        "    except TimeoutError:\n"
        "        print('given up')\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.wait(20) == 0
        assert process.stdout.read().split() == [b"given", b"up"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_closed_streams_become_the_null_device():
    program = (
        "from propolis.cli import streams\n"
        "streams.ensure_open()\n"
        "import os, sys\n"
        "print('lost', file=sys.stderr)\n"
        "raise SystemExit(42 if all(os.stat(n).st_rdev == os.stat('/dev/null').st_rdev for n in range(3)) else 1)\n"
    )
    command = f'{sys.executable} -c "{program}" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 42
