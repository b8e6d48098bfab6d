"""The byte stream between host and guest agent, as a protocol and nothing else.

Whatever carries it (virtio-serial, vsock, hvsock, memory), the layers above see a `ByteChannel`.
"""

from typing import Protocol


class ByteChannel(Protocol):
    """A reliable, ordered, two-way byte stream. One task may send while another receives."""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return the next bytes, at least one; `b""` once the other side is gone for good."""

    async def send(self, data: bytes | memoryview) -> None:
        """Send all of `data`; returns when it has been handed on.

        Raises:
            BrokenPipeError: the other side is gone. Some of `data` may have been delivered.
        """

    async def aclose(self) -> None:
        """Close this side. Idempotent. Bytes still on their way may be lost."""
