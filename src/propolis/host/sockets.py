"""Connected sockets as what the rooms above speak through. Knows nothing of what goes over them."""

import socket

import anyio
from anyio.abc import UNIXSocketStream

from propolis.channel import ByteChannel


async def stream(connected: socket.socket) -> UNIXSocketStream:
    """The socket for this event loop, which owns it from here on."""
    connected.setblocking(False)
    return await UNIXSocketStream.from_socket(connected)


async def channel(connected: socket.socket) -> ByteChannel:
    """The socket as a `ByteChannel`, which owns it from here on."""
    return _SocketChannel(await stream(connected))


class _SocketChannel:
    """See `propolis.channel.ByteChannel`."""

    def __init__(self, stream: UNIXSocketStream) -> None:
        self._stream = stream

    async def receive(self, max_bytes: int = 65536) -> bytes:
        try:
            return await self._stream.receive(max_bytes)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return b""

    async def send(self, data: bytes | memoryview) -> None:
        try:
            await self._stream.send(bytes(data))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise BrokenPipeError("the other side of the connection is gone") from error

    async def aclose(self) -> None:
        await self._stream.aclose()
