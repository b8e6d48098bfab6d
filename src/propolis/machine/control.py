"""A machine's control socket (on Windows a named pipe), as its owner serves it to other processes of the same user.

The socket lies in the machine's directory, which is the user's alone. It speaks the agent protocol, so whatever works
on a machine one owns works on one that another process owns. Beside the guest's processes it offers programs of the
owner: `host.inspect`, `host.console`, what an owner adds (`broadcast`), and `host.detach` (`agent.relay`).
"""

import contextlib
import json
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from propolis.agent.client import AgentClient
from propolis.agent.process import ExitStatus
from propolis.agent.relay import Program, Relay, Served
from propolis.agent.session import Hello
from propolis.channel import ByteChannel
from propolis.errors import PropolisError
from propolis.host import system
from propolis.host.base import Listener
from propolis.hypervisor.base import VMHandle
from propolis.machine.grouping import ungrouped
from propolis.spec import Process
from propolis.state.record import MachineRecord

SOCKET = "control"
"""Its name in the machine's directory."""
_MOST_CLIENTS = 256


class Control:
    """An owner's side: serves clients as long as it is entered. Leave it in the task that entered it."""

    def __init__(
        self,
        record: MachineRecord,
        process: Process,
        handle: VMHandle,
        agent: AgentClient,
        hello: Hello,
        shut_down: Callable[[float], Awaitable[None]],
    ) -> None:
        """Serve a machine whose workload is `process`; `shut_down` ends it with so many seconds of grace."""
        self.programs: dict[str, Program] = {"host.inspect": self._inspect, "host.console": self._console}
        """Owners add their own."""
        self._record, self._process, self._handle = record, process, handle
        self._agent, self._hello = agent, hello
        self._shut_down = shut_down
        self._tasks: TaskGroup | None = None
        self._clients = 0

    async def __aenter__(self) -> Self:
        """Listen."""
        listener = system.listen(self._record.directory / SOCKET)
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._listen, listener)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Part from all clients. An exception of the body comes out as it is, not in a group."""
        assert self._tasks is not None
        self._tasks.cancel_scope.cancel()
        if isinstance(error, anyio.get_cancelled_exc_class()):
            return await self._tasks.__aexit__(kind, error, trace)
        await self._tasks.__aexit__(None, None, None)
        return None

    async def serve(self, client: ByteChannel, detach: Callable[[], None] = lambda: None) -> bool:
        """Serve one client until it has left; returns whether it let go on what it started.

        `detach` is called when it says so, before it is told that this has been heard.
        """
        relay = Relay(client, self._agent, self._hello, self.programs, self._begin_shutdown, detach)
        # a client's faults are its own, and of a lost machine the owner hears by itself
        with contextlib.suppress(PropolisError), ungrouped():
            await relay.serve()
        return relay.detached

    def _begin_shutdown(self, grace: float) -> None:
        assert self._tasks is not None
        self._tasks.start_soon(self._end_machine, grace)

    async def _end_machine(self, grace: float) -> None:
        await self._shut_down(grace)

    async def _listen(self, listener: Listener) -> None:
        assert self._tasks is not None
        with contextlib.closing(listener):
            while True:
                try:
                    client = await listener.accept()
                except OSError:  # it has left already, or there are no descriptors for it now
                    await anyio.sleep(0.01)
                    continue
                if self._clients >= _MOST_CLIENTS:
                    await client.aclose()
                    continue
                self._clients += 1
                self._tasks.start_soon(self._serve, client)

    async def _serve(self, client: ByteChannel) -> None:
        try:
            await self.serve(client)
        finally:
            self._clients -= 1

    async def _inspect(self, served: Served) -> ExitStatus:
        """`host.inspect`: what the machine is, as JSON."""
        document = {
            "id": self._record.id,
            "name": self._record.name,
            "image": self._record.image,
            "process": self._process.to_json(),
        }
        await served.write(json.dumps(document).encode())
        return ExitStatus(0)

    async def _console(self, served: Served) -> ExitStatus:
        """`host.console`: what the guest's kernel and init printed last."""
        await served.write(self._handle.console().encode())
        return ExitStatus(0)
