import asyncio
import threading
import time

import anyio
import pytest

from propolis.hypervisor.hyperv.threads import bell, in_thread

pytestmark = pytest.mark.anyio


async def test_the_result_comes_back_and_the_loop_goes_on_meanwhile():
    begun, go_on = anyio.Event(), threading.Event()
    ring = bell()

    def call(_):
        ring(begun.set)
        assert go_on.wait(10)
        return threading.current_thread()

    async def release():
        await begun.wait()
        go_on.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(release)
        assert await in_thread(call) is not threading.current_thread()


async def test_an_exception_comes_out_as_it_is():
    def call(_):
        raise LookupError("it")

    with pytest.raises(LookupError, match="it"):
        await in_thread(call)


async def test_a_cancelled_caller_waits_for_a_call_that_is_told():
    returned = False

    def call(unwanted):
        nonlocal returned
        assert unwanted.wait(10)
        time.sleep(0.05)
        returned = True

    with anyio.move_on_after(0.05) as scope:
        await in_thread(call)
    assert scope.cancelled_caught
    assert returned


async def test_a_call_that_nobody_wants_any_more_is_not_begun():
    with anyio.CancelScope() as scope:
        scope.cancel()
        await in_thread(lambda _: pytest.fail("begun"))
    await anyio.sleep(0.05)


def test_the_event_loops_own_cancellation_does_not_walk_away_either():
    returned = False

    def call(unwanted):
        nonlocal returned
        assert unwanted.wait(10)
        time.sleep(0.05)
        returned = True

    async def main():
        task = asyncio.create_task(in_thread(call))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert returned

    asyncio.run(main())


def test_a_bell_is_quiet_after_the_loops_end(anyio_backend):
    rings = []

    async def main():
        rings.append(bell())

    anyio.run(main, backend=anyio_backend)
    rings[0](lambda: pytest.fail("rung"))
