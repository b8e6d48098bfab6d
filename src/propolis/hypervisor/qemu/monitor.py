"""Drives QMP over a connected socket, one command at a time. Events are passed over: nothing here waits for one."""

from collections import deque
from typing import Any

import anyio

from propolis.channel import ByteChannel
from propolis.errors import BackendError
from propolis.hypervisor.qemu.qmp import Connection, Greeting, Message, Reply


class Monitor:
    """QEMU's monitor. Commands may come from several tasks; each waits for its turn."""

    def __init__(self, channel: ByteChannel) -> None:
        self._channel = channel
        self._connection = Connection()
        self._messages: deque[Message] = deque()
        self._turn = anyio.Lock()

    async def negotiate(self) -> None:
        """Take the greeting and leave negotiation mode.

        Raises:
            BackendError: QEMU ended, or does not speak QMP.
        """
        async with self._turn:
            if not isinstance(await self._next(), Greeting):
                raise BackendError("QEMU's monitor did not greet")
        await self.execute("qmp_capabilities")

    async def execute(self, name: str, **arguments: Any) -> Any:
        """Run one command and return its value.

        Raises:
            BackendError: QEMU refused the command (with its words), or ended before it answered.
        """
        async with self._turn:
            try:
                await self._channel.send(Connection.command(name, **arguments))
            except BrokenPipeError as error:
                raise BackendError(f"QEMU ended before it took the command {name}") from error
            while not isinstance(reply := await self._next(), Reply):
                pass
        if reply.error is not None:
            raise BackendError(f"QEMU refused {name}: {reply.error}")
        return reply.value

    async def aclose(self) -> None:
        """Close the connection; QEMU goes on without a monitor."""
        await self._channel.aclose()

    async def _next(self) -> Message:
        while not self._messages:
            data = await self._channel.receive()
            if not data:
                raise BackendError("QEMU ended while its monitor was in use")
            self._messages.extend(self._connection.receive(data))
        return self._messages.popleft()
