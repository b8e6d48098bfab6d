"""A run in two processes: the machine's owner, which has no terminal, and a front end, which may leave it running.

The split comes early, by fork, before there is a thread or an event loop. Until the front end lets the machine go, the
owner tells on our standard error what happens, as a run in one process does; a front end that ends otherwise, in
whatever way, takes the machine along.
"""

import math
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import anyio

from propolis.cli import streams
from propolis.cli.foreground import Foreground, Opened
from propolis.cli.progress import Mode, Progress
from propolis.errors import MachineLost, ProtocolError
from propolis.host import system
from propolis.host.directories import data_directory
from propolis.host.sockets import channel
from propolis.image.reference import reads_standard_input
from propolis.machine.grouping import ungrouped
from propolis.spec import MachineSpec
from propolis.state.store import MachineStore

if TYPE_CHECKING:
    from propolis.agent.client import AgentClient
    from propolis.machine.owner import Owner

_REFRESH = 0.1
"""Seconds between two looks at how long the launch takes."""
_PARTING = 2.0
"""Seconds for the front end to give the terminal back before the owner prints what went wrong."""


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


def run_owned(wanted: Wanted) -> int:
    """Run it; the exit code of the workload, or 0 if it was left running.

    Raises:
        Unsupported: this system has no fork.
        MachineLost: the owner was killed.
        PropolisError: what keeps it from running, in the owner's process; here its exit code is returned.
    """
    front, back = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = system.fork()
    if pid == 0:
        front.close()
        return _own(wanted, back)
    back.close()
    front_end = _FrontEnd(wanted, front)
    try:
        status = front_end.run()
    finally:
        front.close()
        ended = 0 if front_end.left else os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status is not None:
        return status
    if ended >= 0:
        return ended  # it has said why
    MachineStore(data_directory()).sweep()
    raise MachineLost(f"the process that owned the machine was killed by signal {-ended}; the machine went with it")


class _FrontEnd:
    """The process with the terminal."""

    def __init__(self, wanted: Wanted, front: socket.socket) -> None:
        self._wanted, self._front = wanted, front
        self._name = ""
        self.left = False
        """Whether the machine goes on without us."""

    def run(self) -> int | None:
        """Attach, or leave at once; the exit code, or None if the owner has ended the connection."""
        progress = Progress(Mode.NONE)  # the owner shows it, until there is a process
        foreground = Foreground(
            progress, tty=True, interactive=self._wanted.interactive, detach_keys=self._wanted.detach_keys
        )
        try:
            with ungrouped():
                if self._wanted.detach:
                    print(anyio.run(self._leave_running))
                    return 0
                status = anyio.run(foreground.run, self._attached)
        except (MachineLost, ProtocolError):
            return None
        if self._wanted.timing:
            progress.show_timings()
        if self.left:
            progress = Progress(self._wanted.progress)
            progress.notice(f"left {self._name} running; `propolis attach {self._name}` comes back")
        return status

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator["AgentClient"]:
        from propolis.agent.client import AgentClient

        async with AgentClient(channel(self._front)) as agent:
            await agent.hello(math.inf)  # the owner sees to it that this does not last
            yield agent

    @asynccontextmanager
    async def _attached(self) -> AsyncIterator[Opened]:
        async with self._connected() as agent:
            from propolis.machine.connecting import attach_to

            yield Opened(await attach_to(agent, eof=True), partial(self._leave, agent))

    async def _leave(self, agent: "AgentClient") -> None:
        from propolis.machine.connecting import identity, leave

        _, name = await identity(agent)
        await leave(agent)
        self.left, self._name = True, name

    async def _leave_running(self) -> str:
        from propolis.machine.connecting import identity, leave

        async with self._connected() as agent:
            machine_id, _ = await identity(agent)
            await leave(agent)
            self.left = True
            return machine_id


def _own(wanted: Wanted, back: socket.socket) -> int:
    """Be the owner; what goes wrong is raised, and printed by whoever prints it for every command."""
    from propolis.machine.owner import Owner

    _to_nowhere(streams.STDOUT)
    if not reads_standard_input(wanted.spec.image):  # which is the image then, and ends with it
        _to_nowhere(streams.STDIN)
    progress = Progress(wanted.progress)
    lifeline = back.dup()
    owner = Owner(
        wanted.spec,
        progress,
        back,
        interactive=wanted.interactive,
        let_go=lambda: _to_nowhere(streams.STDIN, streams.STDERR),
    )
    try:
        with ungrouped():
            return anyio.run(_watched, owner, progress, wanted.timeout)
    finally:
        progress.close()
        _part(lifeline)
        if wanted.timing:
            progress.show_timings()
            if owner.launched is not None:
                progress.show_boot(owner.launched.hello.stamps)


async def _watched(owner: "Owner", progress: Progress, timeout: float | None) -> int:
    """Run the owner's machine; show how long it takes to start; end it when the owner is told to end."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_show, owner, progress)
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

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async for _ in received:
            if owner.launched is None:
                scope.cancel()
            else:
                await owner.launched.shut_down(STOP_TIMEOUT)


def _part(lifeline: socket.socket) -> None:
    """Tell the front end that this is all, and wait until it has given the terminal back."""
    with lifeline, suppress(OSError):
        lifeline.shutdown(socket.SHUT_WR)
        lifeline.settimeout(_PARTING)
        while lifeline.recv(65536):
            pass


def _to_nowhere(*descriptors: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
