"""Run any OCI container image as a microVM.

`run` and `Machine` block, `arun` and `AsyncMachine` are their asynchronous twins; `errors` holds what they raise.
`pull` and what is in `propolis.images` are about the images of this host.
Everything is imported on first use, so that importing propolis costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from propolis import errors as errors

if TYPE_CHECKING:
    from propolis.agent.wire import SignalScope as SignalScope
    from propolis.machine.blocking import Machine as Machine
    from propolis.machine.blocking import run as run
    from propolis.machine.handle import AsyncMachine as AsyncMachine
    from propolis.machine.handle import arun as arun
    from propolis.machine.pulling import pull as pull
    from propolis.machine.result import Result as Result
    from propolis.spec import Mount as Mount

_HOMES = {
    "AsyncMachine": "propolis.machine.handle",
    "Machine": "propolis.machine.blocking",
    "Mount": "propolis.spec",
    "Result": "propolis.machine.result",
    "SignalScope": "propolis.agent.wire",
    "arun": "propolis.machine.handle",
    "pull": "propolis.machine.pulling",
    "run": "propolis.machine.blocking",
}

_ROOMS = ("disk", "images", "progress")
"""Modules of the public interface that need no import of their own."""

__all__ = ["AsyncMachine", "Machine", "Mount", "Result", "SignalScope", "arun", "errors", "pull", "run"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return import_module(f"propolis.{name}")
    raise AttributeError(f"module 'propolis' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_ROOMS})
