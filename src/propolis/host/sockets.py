"""Connected sockets as what the rooms above speak through. Knows nothing of what goes over them."""

import socket

import anyio
import anyio.lowlevel

from propolis.channel import ByteChannel


def channel(connected: socket.socket) -> ByteChannel:
    """The socket as a `ByteChannel`, which owns it from here on."""
    connected.setblocking(False)
    return _SocketChannel(connected)


class SocketListener:
    """See `propolis.host.base.Listener`: a listening socket, which it owns."""

    def __init__(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._listener = listener

    async def accept(self) -> ByteChannel:
        """See `Listener.accept`."""
        await anyio.wait_readable(self._listener)
        connection, _ = self._listener.accept()
        return channel(connection)

    def close(self) -> None:
        """See `Listener.close`."""
        self._listener.close()


class _SocketChannel:
    """See `propolis.channel.ByteChannel`.

    On the bare socket: a task that is cancelled just when bytes come makes anyio's own streams (4.16) complain of a
    future that is done already.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.lowlevel.checkpoint()
        while True:
            try:
                return self._socket.recv(max_bytes)
            except BlockingIOError:
                try:
                    await anyio.wait_readable(self._socket)
                except anyio.ClosedResourceError:
                    return b""
            except OSError:
                return b""

    async def send(self, data: bytes | memoryview) -> None:
        await anyio.lowlevel.checkpoint()
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                await self._writable()
            except OSError as error:
                raise BrokenPipeError("the other side of the connection is gone") from error

    async def _writable(self) -> None:
        try:
            await anyio.wait_writable(self._socket)
        except anyio.ClosedResourceError as error:
            raise BrokenPipeError("the connection was closed") from error

    async def aclose(self) -> None:
        if self._socket.fileno() >= 0:
            anyio.notify_closing(self._socket)
            self._socket.close()
        await anyio.lowlevel.checkpoint()
