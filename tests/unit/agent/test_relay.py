"""Clients of an owner over memory: their streams are the guest's, their faults their own."""

import contextlib
from contextlib import asynccontextmanager

import anyio
import pytest

from propolis import spec
from propolis.agent import wire
from propolis.agent.client import AgentClient
from propolis.agent.process import WINDOW, ExitStatus
from propolis.agent.relay import DETACH, Relay
from propolis.agent.wire import FrameType, SignalScope, Source
from propolis.errors import CommandNotFound, MachineLost, ProtocolError
from propolis.machine.grouping import ungrouped
from propolis.testing.channels import memory_channel_pair
from propolis.testing.guest import STAMPS, FakeGuest

pytestmark = pytest.mark.anyio


async def cat(process):
    while data := await process.read():
        await process.write(data)
    await process.write(b"end", Source.STDERR)
    return 3


async def flood(process):
    while True:
        await process.write(bytes(65536))


async def until_signal(process):
    while not process.signals:
        await process.changed()
    return -process.signals[0]


async def sizes(process):
    while not process.sizes:
        await process.changed()
    await process.write(repr(process.sizes[0]).encode())
    return 0


class Owner:
    """An owner with a fake guest; `client()` is one more connection."""

    def __init__(self, tasks, agent, guest, hello):
        self.tasks, self.agent, self.guest, self._hello = tasks, agent, guest, hello
        self.relays, self.channels, self.graces, self.errors = [], [], [], []
        self.programs = {"host.echo": self._echo}

    @staticmethod
    async def _echo(served):
        got = []

        async def signalled(number, scope):
            got.append((number, scope))

        served.signalled = signalled
        while data := await served.read():
            await served.write(data)
        await served.write(repr((served.argv, got)).encode(), Source.STDERR)
        return ExitStatus(5)

    def channel(self, depth=16):
        ours, theirs = memory_channel_pair(depth)
        self.channels.append(ours)
        relay = Relay(theirs, self.agent, self._hello, self.programs, self.graces.append)
        self.relays.append(relay)
        self.tasks.start_soon(self._serve, relay)
        return ours

    def leave(self):
        """Part from all clients."""
        self._serving.cancel()

    async def _serve(self, relay):
        try:
            with ungrouped(), anyio.CancelScope() as self._serving:
                await relay.serve()
        except ProtocolError as error:
            self.errors.append(str(error))

    @asynccontextmanager
    async def client(self):
        async with AgentClient(self.channel()) as client:
            await client.hello(5)
            yield client


@asynccontextmanager
async def owning(**programs):
    ours, theirs = memory_channel_pair()
    guest = FakeGuest(theirs, {"cat": cat, "flood": flood, "until_signal": until_signal, "sizes": sizes} | programs)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_until_nobody_listens, guest)
            async with AgentClient(ours) as agent:
                owner = Owner(tasks, agent, guest, await agent.hello(5))
                try:
                    yield owner
                finally:
                    for channel in owner.channels:
                        await channel.aclose()
            await theirs.aclose()
            tasks.cancel_scope.cancel()


async def _until_nobody_listens(guest):
    with contextlib.suppress(BrokenPipeError), ungrouped():
        await guest.serve()


async def until(condition):
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.01)


def process(*argv, **options):
    return spec.Process(argv=argv, **options)


async def test_clients_have_processes_of_their_own_under_the_same_numbers():
    async def one(owner, text):
        async with owner.client() as client:
            assert (await client.hello(1)).stamps == STAMPS
            cat = await client.exec(process("cat"))
            await cat.stdin.send(text * 200_000)
            await cat.stdin.aclose()
            outputs.append((await cat.stdout.read(), await cat.stderr.read(), await cat.wait(), text))

    outputs = []
    async with owning() as owner, anyio.create_task_group() as tasks:
        for text in (b"a", b"bc", b"def"):
            tasks.start_soon(one, owner, text)
    assert len(outputs) == 3
    assert all((out, err, status) == (text * 200_000, b"end", ExitStatus(3)) for out, err, status, text in outputs)


async def test_signals_sizes_and_failures_pass():
    async with owning() as owner, owner.client() as client:
        ended = await client.exec(process("until_signal"))
        await ended.signal("USR1", SignalScope.PROCESS)
        assert await ended.wait() == ExitStatus(0, 10)
        sized = await client.exec(process("sizes"))
        await sized.resize(12, 34)
        assert await sized.stdout.read() == b"(12, 34)"
        with pytest.raises(CommandNotFound, match="nothing: not found"):
            await client.exec(process("nothing"))
        assert await client.ping() < 5


async def test_a_client_that_does_not_read_holds_up_nobody_and_little_waits_for_it():
    async with owning() as owner, owner.client() as slow, owner.client() as quick:
        stuck = await slow.exec(process("flood"))
        for _ in range(50):
            cat = await quick.exec(process("cat"))
            await cat.stdin.send(b"x" * 70_000)
            await cat.stdin.aclose()
            assert len(await cat.stdout.read()) == 70_000
        assert owner.relays[0]._waiting <= WINDOW
        assert len(await stuck.stdout.receive()) == 65536


async def test_a_channel_that_is_not_read_at_all_holds_up_nobody():
    async with owning() as owner:
        deaf = owner.channel()
        document = b'{"cmd":["flood"],"credit":8388608}'
        await deaf.send(wire.pack(FrameType.EXEC, 1, document))
        async with owner.client() as quick:
            await until(lambda: owner.relays[0]._waiting >= 6 << 20)  # the channel holds the rest
            cat = await quick.exec(process("cat"))
            await cat.stdin.aclose()
            assert await cat.wait() == ExitStatus(3)
        assert owner.relays[0]._waiting <= 9 << 20
        await deaf.aclose()


async def test_what_a_client_started_ends_with_it():
    async with owning() as owner:
        async with owner.client() as client:
            await client.exec(process("until_signal"))
            await client.exec(process("cat"))
            left = list(owner.guest.processes.values())
        await until(lambda: all(one.signals for one in left))
        assert [one.signals for one in left] == [[9], [9]]


async def test_what_a_client_left_goes_on_and_is_not_held_up_by_its_output():
    printed = []

    async def printing(process):
        while len(printed) < 100:
            await process.write(bytes(65536))
            printed.append(1)
        return 0

    async with owning(printing=printing) as owner:
        async with owner.client() as client:
            await client.exec(process("printing"))  # never read: a window of it is under way
            await anyio.sleep(0.05)
            assert len(printed) < 100
            await (await client.exec(process(DETACH, builtin=True))).wait()
            (left,) = owner.guest.processes.values()
        await until(lambda: len(printed) == 100)
        assert not left.signals
        assert owner.relays[0].detached


async def test_programs_of_the_owner_are_called_like_the_agents():
    async with owning() as owner, owner.client() as client:
        echo = await client.exec(process("host.echo", "word", builtin=True))
        await echo.signal("TERM")

        async def feed():
            await echo.stdin.send(b"y" * 600_000)
            await echo.stdin.aclose()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed)
            assert await echo.stdout.read() == b"y" * 600_000
        told = await echo.stderr.read()
        assert told == repr((("host.echo", "word"), [(15, SignalScope.GROUP)])).encode()
        assert await echo.wait() == ExitStatus(5)
        with pytest.raises(CommandNotFound, match="does not offer"):
            await client.exec(process("host.nothing", builtin=True))
        with pytest.raises(CommandNotFound):  # without `builtin` it is a program like any other
            await client.exec(process("host.echo"))


async def test_a_shutdown_is_the_owners_business():
    async with owning() as owner, owner.client() as client:
        with anyio.move_on_after(0.2):
            await client.shutdown(1.5)
        assert owner.graces == [1.5]
        assert owner.guest.processes == {}


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff" * 64,
        wire.pack(FrameType.START, 1, b'{"credit":1}'),
        wire.pack(FrameType.STDIN, 3, b"x"),
        wire.pack(FrameType.EXEC, 1, b"{}"),
        wire.pack(FrameType.EXEC, 1, b"[" * 60_000),
        wire.pack(FrameType.EXEC, 1, b'{"cmd":["cat"],"credit":100000000}'),
        wire.pack(FrameType.EXEC, 1, b'{"cmd":["cat"],"credit":1}') * 2,
        wire.pack(FrameType.EXEC, 1, b'{"cmd":["cat"],"credit":1}') + wire.pack(FrameType.STDIN, 1, bytes(65536)) * 9,
        wire.pack(FrameType.EXEC, 1, b'{"cmd":["flood"],"credit":1}')
        + wire.pack(FrameType.GRANT, 1, wire.U32_PAIR.pack(1, 0xFFFFFFFF)),
    ],
    ids=["noise", "start", "unopened", "no-credit", "deep", "credit", "twice", "input", "grant"],
)
async def test_a_client_that_breaks_the_protocol_is_dropped_alone(sent):
    async with owning() as owner, owner.client() as other:
        bad = owner.channel()
        await bad.send(sent)
        with anyio.fail_after(5):
            while await bad.receive():
                pass
        await until(lambda: owner.errors)
        assert "a client" in owner.errors[0]
        cat = await other.exec(process("cat"))
        await cat.stdin.aclose()
        assert await cat.wait() == ExitStatus(3)


async def test_an_owner_that_parts_sends_what_is_under_way_and_ends_the_connection():
    async with owning() as owner:
        client = owner.channel(depth=1)
        await client.send(wire.pack(FrameType.EXEC, 1, b'{"cmd":["cat"],"credit":1048576}'))
        await client.send(wire.pack(FrameType.STDIN_EOF, 1))
        await until(lambda: owner.agent.session._last_stream and not owner.agent.session._streams)
        owner.leave()
        got = b""
        while piece := await client.receive():
            got += piece
        assert got.endswith(wire.pack(FrameType.EXIT, 1, wire.U32_PAIR.pack(3, 0)))


async def test_a_machine_that_is_lost_is_lost_to_its_clients():
    async with owning() as owner, owner.client() as client:
        cat = await client.exec(process("cat"))
        owner.leave()
        with pytest.raises(MachineLost):
            await cat.wait()
