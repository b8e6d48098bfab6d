"""A workload's output for many, over a fake guest and relays in memory."""

from contextlib import asynccontextmanager

import anyio
import pytest

from propolis import spec
from propolis.agent.client import AgentClient
from propolis.agent.process import ExitStatus
from propolis.agent.relay import Relay
from propolis.agent.wire import Source
from propolis.machine.broadcast import KEPT_LOG, Broadcast, Log
from propolis.testing.channels import memory_channel_pair
from propolis.testing.guest import FakeGuest

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


class Stage:
    def __init__(self, tasks, agent, hello, broadcast):
        self._tasks, self._agent, self._hello, self.broadcast = tasks, agent, hello, broadcast

    @asynccontextmanager
    async def calling(self, *argv):
        """Call a program of the broadcast from a client of its own."""
        ours, theirs = memory_channel_pair()
        relay = Relay(theirs, self._agent, self._hello, self.broadcast.programs(), lambda _: None)
        self._tasks.start_soon(relay.serve)
        async with AgentClient(ours) as client:
            yield await client.exec(spec.Process(argv=argv, builtin=True))


@asynccontextmanager
async def staged(init, *, awaited=False):
    ours, theirs = memory_channel_pair()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(FakeGuest(theirs, {"init": init}).serve)
            async with AgentClient(ours) as agent:
                hello = await agent.hello(5)
                broadcast = Broadcast(await agent.start(), awaited=awaited)
                tasks.start_soon(broadcast.run)
                try:
                    yield Stage(tasks, agent, hello, broadcast)
                finally:
                    tasks.cancel_scope.cancel()
                    await theirs.aclose()


async def until(condition):
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.01)


def printing(total, *, size=65536):
    async def init(process):
        for number in range(total // size):
            await process.write(bytes([number % 251]) * size)
        await process.write(b"error", Source.STDERR)
        return 4

    return init


def printed(total, *, size=65536):
    return b"".join(bytes([number % 251]) * size for number in range(total // size))


async def test_what_is_awaited_is_lost_to_nobody_who_is_alone():
    async with staged(printing(8 << 20), awaited=True) as stage:
        await anyio.sleep(0.1)
        assert not stage.broadcast.log.content()
        async with stage.calling("host.attach") as attached:
            await anyio.sleep(0.1)  # slow to begin
            assert await attached.stdout.read() == printed(8 << 20)
            assert await attached.stderr.read() == b"error"
            assert await attached.wait() == ExitStatus(4)
        assert stage.broadcast.has_ended


async def test_with_nobody_attached_the_end_of_it_is_kept():
    async with staged(printing(8 << 20)) as stage:
        await until(lambda: stage.broadcast.has_ended)
        kept = printed(8 << 20) + b"error"
        assert stage.broadcast.log.content()[-1000:] in (kept[-1000:], kept[-1005:-5])  # two streams in one log
        assert len(stage.broadcast.log.content()) == KEPT_LOG
        async with stage.calling("host.logs") as logs:
            assert await logs.stdout.read() == stage.broadcast.log.content()
        async with stage.calling("host.wait") as wait:
            assert await wait.wait() == ExitStatus(4)
        async with stage.calling("host.attach") as attached:
            assert await attached.wait() == ExitStatus(4)


@pytest.mark.parametrize(
    ("printed", "lines", "kept"),
    [
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb\n", 9, b"a\nb\n"),
        (b"a\nb\n", 0, b""),
        (b"a", 0, b""),
        (b"\n\n", 1, b"\n"),
        (b"", 3, b""),
    ],
)
def test_the_last_lines_of_a_log(printed, lines, kept):
    log = Log()
    log.append(printed)
    assert log.content(lines) == kept


async def test_logs_begin_with_as_many_lines_as_are_asked_for():
    async def init(process):
        await process.write(b"one\ntwo\nthree\n")
        await process.read()
        await process.write(b"four\n")
        return 0

    async with staged(init) as stage:
        await until(lambda: stage.broadcast.log.content().endswith(b"three\n"))
        async with stage.calling("host.logs", "tail=2") as logs:
            assert await logs.stdout.read() == b"two\nthree\n"
        async with stage.calling("host.logs", "follow", "tail=1") as logs, stage.calling("host.attach") as typing:
            assert await logs.stdout.receive() == b"three\n"
            await typing.stdin.send(b"x")
            assert await logs.stdout.read() == b"four\n"


async def test_who_stops_reading_holds_up_one_who_reads_not_and_is_let_go():
    async with staged(printing(12 << 20), awaited=True) as stage:
        async with stage.calling("host.logs", "follow") as slow, stage.calling("host.attach") as quick:
            assert len(await quick.stdout.read()) > 10 << 20
            assert await quick.wait() == ExitStatus(4)
            assert len(await slow.stdout.read()) < 10 << 20
            assert b"too slowly" in await slow.stderr.read()


async def test_input_of_all_arrives_and_only_the_front_ends_ends_it():
    got = []

    async def init(process):
        while data := await process.read():
            got.append(data)
            await process.write(data)
        return 0

    async with staged(init, awaited=True) as stage:
        async with stage.calling("host.attach", "eof") as front, stage.calling("host.attach") as other:
            await other.stdin.send(b"other")
            await other.stdin.aclose()
            assert await front.stdout.receive() == b"other"
            await front.stdin.send(b"x" * 600_000)
            await front.stdin.aclose()
            assert await front.stdout.read() == b"x" * 600_000
            assert await front.wait() == ExitStatus(0)
        assert b"".join(got) == b"other" + b"x" * 600_000


async def test_signals_and_sizes_are_the_workloads():
    async def init(process):
        while not (process.signals and process.sizes):
            await process.changed()
        await process.write(repr((process.signals, process.sizes)).encode())
        return 0

    async with staged(init) as stage, stage.calling("host.attach") as attached:
        await attached.signal("HUP")
        await attached.resize(5, 6)
        assert await attached.stdout.read() == b"([1], [(5, 6)])"
