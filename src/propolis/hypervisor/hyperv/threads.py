"""Between the library's threads and the event loop, whichever it is: calls that go out, and calls that come in.

A blocking call into computecore may not be walked away from (`_ffi` says why), so `in_thread` never returns before its
call has, however its task is cancelled; instead the call is told, and ends at its next look.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

_T = TypeVar("_T")


class _Work(Generic[_T]):
    """One call: begun at most once, not begun any more once nobody wants it."""

    def __init__(self, call: Callable[[threading.Event], _T]) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._begun = False
        self._finished = threading.Event()
        self.unwanted = threading.Event()
        self.results: list[_T] = []
        self.failures: list[BaseException] = []

    def run(self) -> None:
        with self._lock:
            if self.unwanted.is_set():
                return
            self._begun = True
        try:
            self.results.append(self._call(self.unwanted))
        except BaseException as error:  # noqa: BLE001 - it is raised in the task
            self.failures.append(error)
        finally:
            self._finished.set()

    async def watch(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.unwanted.set()

    def settle(self) -> None:
        """Return once the call is not running; only an event loop's own cancellation finds it running here."""
        with self._lock:
            self.unwanted.set()
        if self._begun:
            self._finished.wait()


async def in_thread(call: Callable[[threading.Event], _T]) -> _T:
    """Run `call` in a worker thread of its own and return what it returns.

    Its argument is set once nobody wants the result any more; a cancelled caller waits until the call has returned.
    """
    work = _Work(call)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work.watch)
            await anyio.to_thread.run_sync(work.run, limiter=anyio.CapacityLimiter(1))
            tasks.cancel_scope.cancel()
    finally:
        work.settle()
    await anyio.lowlevel.checkpoint_if_cancelled()  # asyncio's task group forgets what came during the call
    if work.failures:
        raise work.failures[0]
    return work.results[0]


def bell() -> Callable[[Callable[[], object]], None]:
    """A function that runs a callable in the current event loop soon; any thread may call it, and it does not wait.

    After the loop's end it does nothing.
    """
    try:
        soon: Callable[[Callable[[], object]], object] = asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        import trio  # noqa: PLC0415 - it is what runs here

        soon = trio.lowlevel.current_trio_token().run_sync_soon

    def ring(call: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):
            soon(call)

    return ring
