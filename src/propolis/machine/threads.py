"""Byte work in threads, for tasks that may be cancelled meanwhile."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread

from propolis.progress import Reporter, Revocable, Revoked

_T = TypeVar("_T")


async def in_thread(call: Callable[..., _T], *arguments: object) -> _T:
    """Run byte work in a thread. Cancelled, it is left to end by itself: what it makes goes to the cache or nowhere."""
    return await anyio.to_thread.run_sync(partial(call, *arguments), abandon_on_cancel=True)


async def finished(reporter: Reporter, call: Callable[[Reporter], _T]) -> _T:
    """Run work in a thread that makes what is not cached: cancelled, it is told to end, and waited for."""
    revocable = Revocable(reporter)

    async def revoke_if_cancelled() -> None:
        with revocable:
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(revoke_if_cancelled)
        try:
            result = await anyio.to_thread.run_sync(call, revocable)
        except Revoked:
            await anyio.sleep_forever()  # until this task hears of the cancellation, too
        tasks.cancel_scope.cancel()
    return result
