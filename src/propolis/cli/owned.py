"""A run in two processes: the machine's owner (`owning`), and a front end, which has the terminal and may leave.

A front end that ends in any other way takes the machine along. How the owner's process comes about differs between
systems, which is picked here.
"""

import math
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio

from propolis.cli.foreground import Foreground, Opened
from propolis.cli.owning import Wanted
from propolis.cli.progress import Mode, Progress
from propolis.errors import MachineLost, ProtocolError
from propolis.host.directories import data_directory
from propolis.machine.grouping import ungrouped
from propolis.state.store import MachineStore

if sys.platform == "win32":
    from propolis.cli.owner_windows import OwnerProcess, start
else:
    from propolis.cli.owner_posix import OwnerProcess, start

if TYPE_CHECKING:
    from propolis.agent.client import AgentClient


def run_owned(wanted: Wanted) -> int:
    """Run it; the exit code of the workload, or 0 if it was left running.

    Raises:
        MachineLost: the owner was killed.
        PropolisError: the owner cannot be started. What keeps the machine from running is told by the owner, whose
            exit code is returned.
    """
    owner = start(wanted)
    front_end = _FrontEnd(wanted, owner)
    try:
        status = front_end.run()
    finally:
        owner.close()
        if not front_end.left:
            owner.wait()
    if status is not None:
        return status
    try:
        return owner.exit_code()  # it has said why
    except MachineLost:
        MachineStore(data_directory()).sweep()
        raise


class _FrontEnd:
    """The process with the terminal."""

    def __init__(self, wanted: Wanted, owner: OwnerProcess) -> None:
        self._wanted, self._owner = wanted, owner
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

        async with AgentClient(self._owner.channel) as agent:
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
