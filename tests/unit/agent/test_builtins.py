import contextlib
import errno
import json
import time
from types import SimpleNamespace

import anyio
import pytest

from propolis.agent import client, statistics
from propolis.agent.builtins import Builtins
from propolis.agent.client import AgentClient
from propolis.agent.connection import dial
from propolis.agent.files import Files, FileType
from propolis.agent.wire import U64, FrameType, Source, pack
from propolis.errors import FileError, FileMissing, InvalidArgument, MachineError, MachineLost, ProtocolError
from propolis.testing.channels import memory_channel_pair
from propolis.testing.guest import FakeGuest

pytestmark = pytest.mark.anyio

STATUS = {
    "name": "x",
    "mode": 0o100644,
    "uid": 1,
    "gid": 2,
    "size": 3,
    "blocks": 8,
    "links": 1,
    "inode": 9,
    "device": [0, 0],
    "atime_ns": 1,
    "mtime_ns": -2,
    "ctime_ns": 3,
}


@contextlib.asynccontextmanager
async def connected(output=b"", code=0, words=b""):
    """Builtins of a guest that prints `output`, says `words` and exits with `code`; `asked` is what it was asked."""
    found = SimpleNamespace(asked=None)

    async def program(process):
        found.asked = process.document
        with contextlib.suppress(BrokenPipeError):  # the host may have gone
            while process.document["cmd"][0] == "write" and await process.read():
                pass
            await process.write(output)
            await process.write(words, Source.STDERR)
        return code

    names = ("read", "write", "stat", "list", "mkdir", "remove", "rename", "dial", "stats")
    ours, theirs = memory_channel_pair()
    guest = FakeGuest(theirs, dict.fromkeys(names, program))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve, guest)
        async with AgentClient(ours) as found.agent:
            found.builtins = Builtins(found.agent, "/work")
            yield found
        await theirs.aclose()
        tasks.cancel_scope.cancel()


async def serve(guest):
    try:
        await guest.serve()
    except* BrokenPipeError:  # the host may go while an answer is on its way
        pass


async def test_a_builtin_is_asked_for_as_such():
    async with connected(b"content") as guest:
        assert await Files(guest.builtins).read("f", offset=3, length=4) == b"content"
        assert guest.asked["cmd"] == ["read", "f", "3", "4"]
        assert guest.asked["builtin"] is True
        assert guest.asked["working_dir"] == "/work"


async def test_statuses_are_read():
    async with connected(json.dumps(STATUS).encode() + b"\n") as guest:
        status = await Files(guest.builtins).stat("x")
    assert (status.type, status.mode, status.mtime_ns, status.size) == (FileType.FILE, 0o644, -2, 3)


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"nonsense\n",
        b"[]\n",
        b"{}\n",
        json.dumps(STATUS | {"mode": "x"}).encode(),
        json.dumps(STATUS | {"mode": 0}).encode(),
        json.dumps(STATUS | {"size": 1 << 70}).encode(),
        json.dumps(STATUS | {"size": True}).encode(),
        json.dumps(STATUS | {"device": [1]}).encode(),
        json.dumps(STATUS | {"name": 5}).encode(),
        json.dumps(STATUS | {"target": 5}).encode(),
        (json.dumps(STATUS).encode() + b"\n") * 2,
        b"[" * 100_000,
    ],
)
async def test_a_guest_that_lies_about_files_is_caught(output):
    async with connected(output) as guest:
        with pytest.raises(ProtocolError):
            await Files(guest.builtins).stat("x")


async def test_errors_carry_errno_and_the_guests_sentence():
    async with connected(code=2, words=b"/x: No such file") as guest:
        with pytest.raises(FileMissing, match="/x: No such file") as caught:
            await Files(guest.builtins).read("/x")
        assert caught.value.errno == errno.ENOENT
        assert caught.value.hint
        assert await Files(guest.builtins).exists("/x") is False
    async with connected(code=13, words=b"\x1b[31m" + b"long" * 10_000) as guest:
        with pytest.raises(FileError) as caught:
            await Files(guest.builtins).mkdir("/x")
        assert "\x1b" not in str(caught.value)
        assert len(str(caught.value)) < 5000
    async with connected(code=-9) as guest:
        with pytest.raises(MachineError, match="signal 9"):
            await Files(guest.builtins).remove("/x")


async def test_output_without_end_is_bounded(monkeypatch):
    monkeypatch.setattr("propolis.agent.files.MOST_CONTENT", 100_000)
    async with connected(b"x" * 200_000) as guest:
        with pytest.raises(MachineError, match="not kept in memory"):
            await Files(guest.builtins).read("/x")


async def test_what_is_written_goes_to_standard_input():
    async with connected() as guest:
        await Files(guest.builtins).write("/x", "täxt" * 200_000, mode=0o600, append=True)
        assert guest.asked["cmd"] == ["write", "/x", "600", "append"]
        with pytest.raises(InvalidArgument):
            await Files(guest.builtins).write("/x\0", b"")


async def test_a_connection_that_is_refused():
    async with connected(code=111, words=b": Connection refused") as guest:
        with pytest.raises(FileError) as caught:
            await dial(guest.builtins, 80)
        assert caught.value.errno == 111
        assert guest.asked["cmd"] == ["dial", "tcp", "", "80"]


@pytest.mark.parametrize("address", [0, 65536, "host", "host:", "host:x", ""])
async def test_what_is_no_address(address):
    async with connected() as guest:
        with pytest.raises(InvalidArgument):
            await dial(guest.builtins, address)


@pytest.mark.parametrize("output", [b"", b"{}", b"[1]", b'{"processes":[{"pid":"x"}]}', b'{"processes":[],"cpus":-1}'])
async def test_statistics_in_no_known_form(output):
    with pytest.raises(ProtocolError):
        statistics.read(output)


async def test_statistics_that_a_kernel_does_not_tell_are_zero():
    found = statistics.read(b'{"processes":[{"pid":1,"name":"init"}],"cpus":2}')
    assert (found.cpus, found.memory_total, found.processes[0].name) == (2, 0, "init")


async def test_a_guest_that_falls_silent_is_lost(monkeypatch):
    monkeypatch.setattr(client, "TEND_INTERVAL", 0.01)
    monkeypatch.setattr(client, "MOST_SILENCE", 0.05)
    ours, theirs = memory_channel_pair()
    async with AgentClient(ours) as agent:
        await theirs.send(pack(FrameType.HELLO, 0, b'{"generation":1,"release":"r","machine":"m","stamps":{}}'))
        await agent.hello(5)
        with anyio.fail_after(5), pytest.raises(MachineLost, match="silent"):
            await agent.shutdown(0)
            await agent.ping()
    await theirs.aclose()


async def test_a_guest_that_answers_is_kept(monkeypatch):
    monkeypatch.setattr(client, "TEND_INTERVAL", 0.01)
    monkeypatch.setattr(client, "MOST_SILENCE", 0.1)
    async with connected() as guest:
        await guest.agent.hello(5)
        await anyio.sleep(0.3)
        assert await guest.agent.ping() < 5


async def test_a_guest_is_not_blamed_for_the_time_in_which_this_host_stood_still(monkeypatch):
    monkeypatch.setattr(client, "TEND_INTERVAL", 0.01)
    monkeypatch.setattr(client, "MOST_SILENCE", 0.05)
    ours, theirs = memory_channel_pair()
    async with AgentClient(ours) as agent:
        await theirs.send(pack(FrameType.HELLO, 0, b'{"generation":1,"release":"r","machine":"m","stamps":{}}'))
        await agent.hello(5)
        while pack(FrameType.PING, 0, U64.pack(1)) not in await theirs.receive():
            pass
        time.sleep(0.2)  # noqa: ASYNC251 - asleep, or without a processor
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        await theirs.send(pack(FrameType.PONG, 0, U64.pack(1)))
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        assert agent._error is None
    await theirs.aclose()
