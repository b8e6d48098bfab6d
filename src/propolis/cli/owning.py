"""The process that owns a machine which may be left running. It has no terminal, only a front end that has one.

Until the front end lets the machine go, it tells on the front end's standard error what happens, as a run in one
process does. How the process comes about is not known here (`owner_posix`, `owner_windows`).
"""

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import anyio

from propolis.channel import ByteChannel
from propolis.cli import streams, terminal
from propolis.cli.progress import Mode, Progress
from propolis.image.reference import reads_standard_input
from propolis.machine.grouping import ungrouped
from propolis.spec import MachineSpec

if TYPE_CHECKING:
    from propolis.machine.owner import Owner

PARTING = 2.0
"""Seconds for the front end to give the terminal back before the owner prints what went wrong."""
_REFRESH = 0.1
"""Seconds between two looks at how long the launch takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to run, and how to be attached to it."""

    spec: MachineSpec
    interactive: bool
    detach: bool
    """Leave it alone as soon as it runs."""
    detach_keys: bytes
    timeout: float | None
    progress: Mode
    timing: bool


class FrontEnd(Protocol):
    """The process that started this one."""

    @property
    def channel(self) -> ByteChannel:
        """The connection with it."""

    def let_go(self) -> None:
        """It has left: hold nothing of its terminal any more."""

    def part(self) -> None:
        """Tell it that this is all, and wait at most `PARTING` until it has given the terminal back."""


def own(wanted: Wanted, front_end: FrontEnd) -> int:
    """Be the owner until the machine has ended; the exit code of the workload.

    Raises:
        PropolisError: whatever keeps it from running to its end.
    """
    from propolis.machine.owner import Owner

    to_nowhere(streams.STDOUT)
    if not reads_standard_input(wanted.spec.image):  # which is the image then, and ends with it
        to_nowhere(streams.STDIN)
    progress = Progress(wanted.progress)
    owner = Owner(wanted.spec, progress, front_end.channel, interactive=wanted.interactive, let_go=front_end.let_go)
    try:
        with ungrouped():
            return anyio.run(_watched, owner, progress, wanted.timeout)
    finally:
        progress.close()
        front_end.part()
        if wanted.timing:
            progress.show_timings()
            if owner.launched is not None:
                progress.show_boot(owner.launched.hello.stamps)


def to_nowhere(*descriptors: int) -> None:
    """Put the null device in their place."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


async def _watched(owner: "Owner", progress: Progress, timeout: float | None) -> int:
    """Run the owner's machine; show how long it takes to start; end it when the owner is told to end."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_show, owner, progress)
        if terminal.ENDING:
            tasks.start_soon(_end_on_signals, owner, tasks.cancel_scope)
        status = await owner.run(timeout)
        tasks.cancel_scope.cancel()
        return status
    return 128 + signal.SIGTERM


async def _show(owner: "Owner", progress: Progress) -> None:
    while owner.launched is None:
        progress.refresh()
        await anyio.sleep(_REFRESH)


async def _end_on_signals(owner: "Owner", scope: anyio.CancelScope) -> None:
    from propolis.machine.handle import STOP_TIMEOUT

    with terminal.open_signal_receiver(*terminal.ENDING) as received:
        async for _ in received:
            if owner.launched is None:
                scope.cancel()
            else:
                await owner.launched.shut_down(STOP_TIMEOUT)
