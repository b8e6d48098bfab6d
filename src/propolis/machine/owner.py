"""A process of its own that owns one machine, for a front end which may leave it running.

The front end is a client like any other, but for two things: its connection exists before the machine does, and as long
as it has not said that it lets the machine go, its end is the machine's.
"""

from collections.abc import Callable

import anyio

from propolis.channel import ByteChannel
from propolis.errors import DeadlineExceeded
from propolis.machine.broadcast import Broadcast
from propolis.machine.grouping import ungrouped
from propolis.machine.launch import Launched, launch
from propolis.progress import Reporter
from propolis.spec import MachineSpec

_PARTING = 2.0
"""Seconds that those who are attached to a workload that has ended are given to take the rest of its output."""
_FORSAKEN = 129
"""What a machine ends with that nobody waits for: the code of a hang-up."""


class Owner:
    """Owns the machine of one `spec`. `front` is our side of the front end's connection, closed by `run`."""

    def __init__(
        self,
        spec: MachineSpec,
        reporter: Reporter,
        front: ByteChannel,
        *,
        interactive: bool,
        let_go: Callable[[], None],
    ) -> None:
        """Own what `run` starts; without `interactive` the workload reads end of file.

        `let_go` is called when the front end leaves the machine alone, and only then.
        """
        self._spec, self._reporter, self._front = spec, reporter, front
        self._interactive, self._let_go = interactive, let_go
        self._parted = anyio.Event()
        self.launched: Launched | None = None
        """The machine, once its agent has answered."""

    async def run(self, timeout: float | None = None) -> int:
        """Run the machine to its workload's end; returns the exit code as a shell has it.

        Args:
            timeout: seconds, boot included, after which it is ended.

        Raises:
            DeadlineExceeded: `timeout` ran out.
            PropolisError: whatever keeps the workload from running to its end.
        """
        try:
            with ungrouped(), anyio.fail_after(timeout):
                async with anyio.create_task_group() as tasks:
                    status = await self._run(tasks.cancel_scope)
                    tasks.cancel_scope.cancel()
                    return status
                return _FORSAKEN
        except TimeoutError as error:
            raise DeadlineExceeded(f"the machine was ended: {timeout:g} s ran out") from error
        finally:
            with anyio.CancelScope(shield=True):
                await self._front.aclose()

    async def _run(self, scope: anyio.CancelScope) -> int:
        async with anyio.create_task_group() as tasks:
            waiting = anyio.CancelScope()
            tasks.start_soon(self._wait_for_hangup, waiting, scope)
            async with launch(self._spec, self._reporter) as self.launched:
                main = await self.launched.agent.start(input=self._interactive)
                broadcast = Broadcast(main, awaited=True)
                self.launched.control.programs.update(broadcast.programs())
                waiting.cancel()
                tasks.start_soon(self._serve_front, broadcast, scope)
                status = await broadcast.run()
                await self._parted.wait()  # it has what it asked for, and has left
                with anyio.move_on_after(_PARTING):
                    await broadcast.heard()
        return status.shell_code

    async def _wait_for_hangup(self, waiting: anyio.CancelScope, scope: anyio.CancelScope) -> None:
        """A front end says nothing before it is greeted: what can be read then is its end."""
        with waiting:
            await self._front.receive()
            scope.cancel()

    async def _serve_front(self, broadcast: Broadcast, scope: anyio.CancelScope) -> None:
        def let_go() -> None:
            self._let_go()
            broadcast.let_go()

        assert self.launched is not None
        detached = await self.launched.control.serve(self._front, let_go)
        if not detached and not broadcast.has_ended:
            scope.cancel()
        self._parted.set()
