"""A guest that is lost, or never answers: what it printed last belongs to the error that tells of it."""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import anyio

from propolis.errors import BootFailed, DeadlineExceeded, MachineLost
from propolis.hypervisor.base import VMHandle

if TYPE_CHECKING:
    from propolis.agent.client import AgentClient
    from propolis.agent.session import Hello

_LONGEST_END = 5.0
"""Seconds for a guest that went away to have ended: its last words may still be on their way."""
_MOST_WORDS = 200


@contextlib.asynccontextmanager
async def told(handle: VMHandle) -> AsyncIterator[None]:
    """A MachineLost that says nothing of the kind yet is told with its console and its last line."""
    try:
        yield
    except MachineLost as error:
        if not error.hint:
            await _ended(handle)
            error.console = error.console or handle.console()
            error.hint = _last_words(handle)
        raise


async def greeted(agent: "AgentClient", handle: VMHandle, seconds: float, cpus: int) -> "Hello":
    """The agent's greeting, for which a guest that boots has `seconds`.

    Raises:
        BootFailed: it did not come.
    """
    try:
        return await agent.hello(seconds)
    except DeadlineExceeded as error:
        raise BootFailed(
            f"the guest did not answer within {seconds:g} s",
            hint=f"{_too_slow(cpus)}; {_last_words(handle)}",
            console=handle.console(),
        ) from error
    except MachineLost as error:
        await _ended(handle)
        raise BootFailed(
            "the guest ended before it was ready", hint=_last_words(handle), console=handle.console()
        ) from error


async def _ended(handle: VMHandle) -> None:
    with anyio.move_on_after(_LONGEST_END):
        await handle.wait()


def _too_slow(cpus: int) -> str:
    ours = os.cpu_count() or 1
    if cpus > ours:
        return f"{cpus} CPUs are more than this host's {ours}, which may take too long to come up"
    return "a loaded host may need a longer --boot-timeout"


def _last_words(handle: VMHandle) -> str:
    lines = [line.strip() for line in handle.console().splitlines() if line.strip()]
    found = [line for line in lines if "propolis-init:" in line or "panic" in line.lower()] or lines
    return f"its console ends with: {found[-1][:_MOST_WORDS]}" if found else "its console is empty"
