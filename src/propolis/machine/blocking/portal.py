"""From a caller without async to an event loop in a thread of its own, shared by all machines of the process.

Knows nothing of machines.
"""

from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

import anyio
from anyio.from_thread import BlockingPortal, BlockingPortalProvider

_T = TypeVar("_T")
_R = TypeVar("_R")

portals = BlockingPortalProvider()
"""Entered, it gives the way into the loop, which ends when the last has left."""


def in_portal(portal: BlockingPortal, call: Callable[[], Awaitable[_T]]) -> _T:
    """Run `call` in the portal's loop; an interrupt here (Ctrl-C) cancels it there."""
    future = portal.start_task_soon(call)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


class Twin(Generic[_T]):
    """What has the methods of `source` without async."""

    def __init__(self, source: _T, portal: BlockingPortal) -> None:
        """Not to be called: machines and processes give them out."""
        self._source = source
        self._portal = portal

    def _call(self, call: Callable[[], Awaitable[_R]]) -> _R:
        return in_portal(self._portal, call)


class Opened(Generic[_T]):
    """An asynchronous context, held open by one task in the portal."""

    def __init__(self, portal: BlockingPortal, opening: AbstractAsyncContextManager[_T]) -> None:
        self._portal = portal
        self._opening = opening
        self._value: Future[_T] = Future()

    def __enter__(self) -> _T:
        self._task = self._portal.start_task_soon(self._hold)
        return self._wait_for(self._value)

    def __exit__(self, *_exception: object) -> None:
        self._wait_for(self._portal.start_task_soon(self._leave.set))
        self._wait_for(self._task)

    async def _hold(self) -> None:
        self._leave = anyio.Event()
        try:
            async with self._opening as value:
                self._value.set_result(value)
                await self._leave.wait()
        except BaseException as error:
            if not self._value.done():
                self._value.set_exception(error)
            raise

    def _wait_for(self, future: Future[_R]) -> _R:
        try:
            return future.result()
        except BaseException:  # an interrupt (Ctrl-C) ends the context there; the portal waits for that
            self._task.cancel()
            raise
