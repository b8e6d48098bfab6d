import contextlib

import anyio
import pytest

from propolis.agent.client import AgentClient
from propolis.agent.wire import Source
from propolis.errors import MachineError, MachineLost
from propolis.machine.attach import Collected, attach, from_bytes
from propolis.machine.grouping import ungrouped
from propolis.testing.channels import memory_channel_pair
from propolis.testing.guest import FakeGuest

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


async def serve(channel, program):
    with contextlib.suppress(BrokenPipeError), ungrouped():  # the host may leave at any time
        try:
            await FakeGuest(channel, {"init": program}).serve()
        finally:
            await channel.aclose()


async def run(program, stdin=None, limit=1 << 20, stdout=None):
    """Attach to a fake guest's workload; its status and what it printed."""
    host, far = memory_channel_pair()
    collected = Collected(limit)
    with anyio.fail_after(10), ungrouped():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, far, program)
            try:
                async with AgentClient(host) as agent:
                    process = await agent.start()
                    status = await attach(process, stdin, stdout or collected.take_stdout, collected.take_stderr)
                    return status, bytes(collected.stdout), bytes(collected.stderr)
            finally:
                tasks.cancel_scope.cancel()
    raise AssertionError


async def test_streams_go_both_ways_and_the_status_comes_last():
    async def cat(process):
        while data := await process.read():
            await process.write(data)
            await process.write(data.upper(), Source.STDERR)
        return 3

    status, out, err = await run(cat, from_bytes(b"typed"))
    assert (status.shell_code, out, err) == (3, b"typed", b"TYPED")


async def test_without_input_the_process_reads_end_of_file_at_once():
    async def read(process):
        return len(await process.read())

    assert (await run(read))[0].shell_code == 0


async def test_a_process_that_ends_does_not_wait_for_its_input():
    async def leave(_process):
        return -9

    status, _, _ = await run(leave, anyio.sleep_forever)
    assert (status.signal, status.shell_code) == (9, 137)


async def test_more_output_than_is_kept_is_refused():
    async def talk(process):
        await process.write(b"x" * 2000)
        await anyio.sleep_forever()

    with pytest.raises(MachineError, match="not kept in memory"):
        await run(talk, limit=1000)


async def test_what_the_writer_raises_comes_out_and_the_process_is_killed():
    signals = []

    async def talk(process):
        await process.write(b"x")
        while not process.signals:
            await process.changed()
        signals.extend(process.signals)
        return 0

    async def broken(_data):
        raise BrokenPipeError

    host, far = memory_channel_pair()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, far, talk)
            async with AgentClient(host) as agent:
                process = await agent.start()
                with pytest.raises(BrokenPipeError), ungrouped():
                    await attach(process, None, broken, broken)
                await process.wait()
            tasks.cancel_scope.cancel()
    assert signals == [9]


async def test_a_machine_that_goes_away_is_told():
    host, far = memory_channel_pair()

    async def die(_process):
        await far.aclose()
        await anyio.sleep_forever()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, far, die)
            async with AgentClient(host) as agent:
                with pytest.raises(MachineLost), ungrouped():
                    await attach(await agent.start(), None, Collected(1).take_stdout, Collected(1).take_stderr)
            tasks.cancel_scope.cancel()
