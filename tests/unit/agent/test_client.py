from contextlib import asynccontextmanager

import anyio
import pytest

from propolis import spec
from propolis.agent import wire
from propolis.agent.client import AgentClient
from propolis.agent.process import WINDOW, ExitStatus
from propolis.agent.wire import FrameType, Source
from propolis.errors import CommandNotFound, DeadlineExceeded, InvalidArgument, MachineLost, ProtocolError
from propolis.testing.channels import memory_channel_pair
from propolis.testing.guest import STAMPS, FakeGuest

pytestmark = pytest.mark.anyio


async def cat(process):
    total = 0
    while data := await process.read():
        total += len(data)
        await process.write(data)
    await process.write(f"{total}".encode(), Source.STDERR)
    return 3


async def flood(process):
    for number in range(200):
        await process.write(bytes([number]) * 65536)
    return 0


async def until_signal(process):
    while not process.signals:
        await process.changed()
    return -process.signals[0]


async def sizes(process):
    while not process.sizes:
        await process.changed()
    await process.write(repr(process.sizes[0]).encode())
    return 0


async def never(process):
    await anyio.sleep_forever()


async def hello(process):
    await process.write(b"hello")
    return 0


PROGRAMS = {"cat": cat, "flood": flood, "until_signal": until_signal, "sizes": sizes, "never": never, "init": hello}


@asynccontextmanager
async def connected():
    ours, theirs = memory_channel_pair()
    guest = FakeGuest(theirs, PROGRAMS)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(guest.serve)
        async with AgentClient(ours) as agent:
            yield agent, guest, theirs
        await theirs.aclose()
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def raw():
    ours, theirs = memory_channel_pair()
    try:
        async with AgentClient(ours) as agent:
            yield agent, theirs
    finally:
        with anyio.CancelScope(shield=True):
            await theirs.aclose()


async def heard(theirs):
    """What the host sent next, but for the time and the question whether anybody is there."""
    while True:
        data = await theirs.receive()
        while data and data[4] in (FrameType.CLOCK, FrameType.PING):
            data = data[wire.HEADER.size + 8 :]
        if data:
            return data


def command(*argv):
    return spec.Process(argv=argv)


async def test_the_greeting_carries_the_boot_stamps():
    async with connected() as (agent, _, _):
        assert (await agent.hello(5)).stamps == STAMPS


async def test_a_silent_guest_is_a_deadline_exceeded():
    async with raw() as (agent, _):
        with pytest.raises(DeadlineExceeded):
            await agent.hello(0.01)


async def test_input_comes_back_as_output_and_the_exit_code_with_it():
    async with connected() as (agent, _, _):
        process = await agent.exec(command("cat"))
        await process.stdin.send(b"abc")
        await process.stdin.aclose()
        assert await process.stdout.read() == b"abc"
        assert await process.stderr.read() == b"3"
        assert await process.wait() == ExitStatus(3)


async def test_input_larger_than_the_window_waits_for_credit():
    data = bytes(range(256)) * 2000
    async with connected() as (agent, _, _):
        process = await agent.exec(command("cat"))

        async def feed():
            await process.stdin.send(data)
            await process.stdin.aclose()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed)
            assert await process.stdout.read() == data


async def test_start_runs_the_machines_own_process():
    async with connected() as (agent, _, _):
        process = await agent.start()
        assert await process.stdout.read() == b"hello"
        assert process.pid == 1001


async def test_output_nobody_takes_stops_the_process_and_is_complete_once_taken():
    async with connected() as (agent, _, _):
        process = await agent.exec(command("flood"))
        await anyio.wait_all_tasks_blocked()
        assert sum(map(len, process.stdout._pieces)) == WINDOW
        with anyio.move_on_after(0.01) as scope:
            await process.wait()
        assert scope.cancelled_caught
        assert await process.stdout.read() == b"".join(bytes([number]) * 65536 for number in range(200))
        assert (await process.wait()).code == 0


async def test_closed_output_does_not_hold_up_the_process():
    async with connected() as (agent, _, _):
        process = await agent.exec(command("flood"))
        await process.stdout.aclose()
        assert (await process.wait()).code == 0
        assert await process.stdout.receive() == b""


async def test_receive_never_returns_more_than_asked_for():
    async with connected() as (agent, _, _):
        process = await agent.start()
        assert [await process.stdout.receive(2) for _ in range(4)] == [b"he", b"ll", b"o", b""]


async def test_a_signal_is_told_in_the_status():
    async with connected() as (agent, _, _):
        process = await agent.exec(command("until_signal"))
        await process.signal(15)
        status = await process.wait()
        assert (status.code, status.signal, status.shell_code) == (0, 15, 143)
        with pytest.raises(BrokenPipeError):
            await process.stdin.send(b"x")


async def test_resize_reaches_the_process():
    async with connected() as (agent, _, _):
        process = await agent.exec(command("sizes"))
        await process.resize(24, 80)
        assert await process.stdout.read() == b"(24, 80)"


async def test_many_processes_at_once_keep_their_streams_apart():
    async with connected() as (agent, _, _):
        results = {}

        async def one(number):
            process = await agent.exec(command("cat"))
            await process.stdin.send(b"%d" % number * 1000)
            await process.stdin.aclose()
            results[number] = await process.stdout.read()

        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(one, number)
        assert results == {number: b"%d" % number * 1000 for number in range(50)}


async def test_a_failed_start_is_the_fitting_error_with_a_hint():
    async with connected() as (agent, _, _):
        with pytest.raises(CommandNotFound, match="nope: not found") as caught:
            await agent.exec(command("nope"))
        assert caught.value.hint
        assert caught.value.exit_code == 127
        assert await agent.ping() < 5


async def test_a_caller_cancelled_while_starting_leaves_no_process_behind():
    async with raw() as (agent, theirs):
        await theirs.send(wire.pack(FrameType.HELLO, 0, b'{"generation":1,"release":"r","machine":"m","stamps":{}}'))
        with anyio.move_on_after(0.01):
            await agent.exec(command("never"))
        assert (await heard(theirs))[4] == FrameType.EXEC
        await theirs.send(wire.pack(FrameType.STARTED, 1, wire.U32.pack(5)))
        assert await heard(theirs) == wire.pack(FrameType.SIGNAL, 1, wire.U32_PAIR.pack(9, 1))


async def test_a_machine_that_goes_away_reaches_every_waiter():
    async with connected() as (agent, _, theirs):
        process = await agent.exec(command("never"))
        caught = []

        async def expect(call, *arguments):
            with pytest.raises(MachineLost):
                await call(*arguments)
            caught.append(call)

        async with anyio.create_task_group() as tasks:
            for call in (process.wait, process.stdout.receive, process.stderr.read):
                tasks.start_soon(expect, call)
            tasks.start_soon(expect, process.stdin.send, b"x" * 1_000_000)
            await anyio.wait_all_tasks_blocked()
            await theirs.aclose()
        assert len(caught) == 4
        with pytest.raises(MachineLost):
            await agent.exec(command("cat"))


async def test_output_that_came_before_the_end_is_still_delivered():
    async with raw() as (agent, theirs):
        await theirs.send(wire.pack(FrameType.HELLO, 0, b'{"generation":1,"release":"r","machine":"m","stamps":{}}'))
        async with anyio.create_task_group() as tasks:

            async def answer():
                await heard(theirs)
                await theirs.send(
                    wire.pack(FrameType.STARTED, 1, wire.U32.pack(5)) + wire.pack(FrameType.STDOUT, 1, b"last words")
                )
                await theirs.aclose()

            tasks.start_soon(answer)
            process = await agent.start()
        assert await process.stdout.receive() == b"last words"
        with pytest.raises(MachineLost):
            await process.stdout.receive()


async def test_garbage_from_the_guest_is_a_protocol_error_everywhere():
    async with connected() as (agent, _, theirs):
        process = await agent.exec(command("never"))
        await theirs.send(b"\xff" * 100)
        with pytest.raises(ProtocolError):
            await process.wait()
        with pytest.raises(ProtocolError):
            await agent.ping()


async def test_shutdown_returns_when_the_guest_has_gone():
    async with connected() as (agent, _, _):
        await agent.hello(5)
        with anyio.fail_after(5):
            await agent.shutdown(grace=0.5)


async def test_an_exception_of_the_body_comes_out_bare():
    with pytest.raises(InvalidArgument):
        async with raw():
            raise InvalidArgument("mine")


async def test_leaving_while_cancelled_from_outside_ends_cleanly():
    with anyio.move_on_after(0.02) as scope:
        async with raw() as (agent, _):
            await agent.hello(60)
    assert scope.cancelled_caught
