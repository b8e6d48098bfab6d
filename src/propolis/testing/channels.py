"""In-memory byte channels: what a test, or a backend without a hypervisor, puts where a socket would be."""

import math

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from propolis.channel import ByteChannel


class MemoryChannel:
    """One end of a pair. What is sent at one end is received at the other, in pieces of the receiver's choice."""

    def __init__(self, outgoing: MemoryObjectSendStream[bytes], incoming: MemoryObjectReceiveStream[bytes]) -> None:
        self._outgoing, self._incoming = outgoing, incoming
        self._rest = b""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """See `ByteChannel.receive`."""
        if not self._rest:
            try:
                self._rest = await self._incoming.receive()
            except (anyio.EndOfStream, anyio.ClosedResourceError):
                return b""
        piece, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return piece

    async def send(self, data: bytes | memoryview) -> None:
        """See `ByteChannel.send`."""
        if not data:
            return
        try:
            await self._outgoing.send(bytes(data))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise BrokenPipeError("the other side is gone") from None

    async def aclose(self) -> None:
        """See `ByteChannel.aclose`."""
        self._outgoing.close()
        self._incoming.close()


def memory_channel_pair(depth: float = 16) -> tuple[MemoryChannel, MemoryChannel]:
    """Return both ends of a channel that holds at most `depth` pieces per direction before `send` waits."""
    if not (depth == math.inf or depth >= 0):
        raise ValueError("depth must not be negative")
    forth: tuple[MemoryObjectSendStream[bytes], MemoryObjectReceiveStream[bytes]] = anyio.create_memory_object_stream(
        depth
    )
    back: tuple[MemoryObjectSendStream[bytes], MemoryObjectReceiveStream[bytes]] = anyio.create_memory_object_stream(
        depth
    )
    first: ByteChannel = MemoryChannel(forth[0], back[1])
    second: ByteChannel = MemoryChannel(back[0], forth[1])
    assert isinstance(first, MemoryChannel)
    assert isinstance(second, MemoryChannel)
    return first, second
