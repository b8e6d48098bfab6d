"""The guest's connection to us as a `ByteChannel`: listened for, taken once, carried by threads.

Neither asyncio's Proactor nor trio can drive a Hyper-V socket, but blocking calls work with any, so one thread accepts,
one receives and one sends. What they hand over is bounded in both directions. The first connection is the machine's
agent, as nobody but the machine reaches a socket that is bound to it; a second one is refused, and that is told.
"""

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

import anyio
import anyio.lowlevel
import anyio.to_thread

from propolis.hypervisor.hyperv import hvsocket
from propolis.hypervisor.hyperv.threads import bell

AGENT_PORT = 1024
"""The vsock port that the guest's agent dials."""

_HELD = 1 << 20
"""Bytes in each direction that wait for their taker."""
_PIECE = 256 << 10
_GRACE = 1.0
"""Seconds after the machine's end in which what it sent last is still received."""
_JOIN = 2.0
_RETRY = 0.05
_MOST_TOLD = 5


class GuestChannel:
    """See `propolis.channel.ByteChannel`; quiet until the guest has connected."""

    def __init__(self, listener: socket.socket, tell: Callable[[str], None]) -> None:
        """Take over `listener`. `tell` gets a line for each connection that was refused, in a thread."""
        self._listener = listener
        self._tell = tell
        self._told = 0
        self._ring = bell()
        self._changed = threading.Condition()
        self._connection: socket.socket | None = None
        self._incoming: deque[bytes] = deque()
        self._received = 0
        self._outgoing: deque[bytes] = deque()
        self._queued = 0
        self._ended = False
        self._broken = False
        self._arrived: anyio.Event | None = None
        self._room: anyio.Event | None = None
        self._threads = [
            threading.Thread(target=target, daemon=True, name=f"propolis-agent-{target.__name__.strip('_')}")
            for target in (self._accept, self._receive, self._send)
        ]
        for thread in self._threads:
            thread.start()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """See `ByteChannel.receive`."""
        await anyio.lowlevel.checkpoint()
        while True:
            with self._changed:
                if self._incoming:
                    return self._take(max_bytes)
                if self._ended:
                    return b""
                arrived = self._arrived = anyio.Event()
            await arrived.wait()

    async def send(self, data: bytes | memoryview) -> None:
        """See `ByteChannel.send`."""
        await anyio.lowlevel.checkpoint()
        while True:
            with self._changed:
                if self._broken:
                    raise BrokenPipeError("the machine's agent channel is closed")
                if self._queued < _HELD:
                    self._outgoing.append(bytes(data))
                    self._queued += len(data)
                    self._changed.notify_all()
                    return
                room = self._room = anyio.Event()
            await room.wait()

    async def aclose(self) -> None:
        """See `ByteChannel.aclose`."""
        self._cut()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._join)

    def machine_ended(self) -> None:
        """Nothing more will come but what is on its way."""
        with self._changed:
            connected = self._connection is not None
        if not connected:
            self._cut()
            return
        last = threading.Timer(_GRACE, self._cut)
        last.daemon = True
        last.start()

    def _take(self, max_bytes: int) -> bytes:
        piece = self._incoming.popleft()
        if len(piece) > max_bytes:
            self._incoming.appendleft(piece[max_bytes:])
            piece = piece[:max_bytes]
        self._received -= len(piece)
        self._changed.notify_all()
        return piece

    def _accept(self) -> None:
        while True:
            try:
                connection = hvsocket.accept(self._listener)
            except OSError:
                if self._is_cut():
                    return
                # a connection that broke before it was taken is none; an unusable listener is the end
                if not _listens(self._listener):
                    self._finish()
                    return
                time.sleep(_RETRY)
                continue
            if (reason := self._objection(connection)) is not None:
                with connection:  # closed when it is told, so that who is refused finds it written
                    if self._told < _MOST_TOLD:
                        self._told += 1
                        self._tell(reason)

    def _objection(self, connection: socket.socket) -> str | None:
        """Why a connection is refused; None: it is the agent's, and now in use."""
        with self._changed:
            if self._ended:
                return "propolis: refused a connection to the agent's port of a machine that is being closed"
            if self._connection is not None:
                return "propolis: refused a second connection to the agent's port"
            self._connection = connection
            self._changed.notify_all()
        return None

    def _receive(self) -> None:
        if (connection := self._connected()) is None:
            return
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._received < _HELD or self._broken)
            try:
                data = connection.recv(_PIECE)
            except OSError:
                data = b""
            if not data:
                self._finish()
                return
            with self._changed:
                self._incoming.append(data)
                self._received += len(data)
                arrived, self._arrived = self._arrived, None
            if arrived is not None:
                self._ring(arrived.set)

    def _send(self) -> None:
        if (connection := self._connected()) is None:
            return
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._outgoing or self._broken)
                if self._broken:
                    return
                data = self._outgoing.popleft()
            try:
                connection.sendall(data)
            except OSError:
                self._break()
                return
            with self._changed:
                self._queued -= len(data)
                room, self._room = self._room, None
            if room is not None:
                self._ring(room.set)

    def _connected(self) -> socket.socket | None:
        with self._changed:
            self._changed.wait_for(lambda: self._connection is not None or self._ended)
            return self._connection

    def _is_cut(self) -> bool:
        with self._changed:
            return self._broken and self._ended

    def _break(self) -> None:
        """Nothing more can be sent."""
        with self._changed:
            self._broken = True
            self._outgoing.clear()
            room, self._room = self._room, None
            self._changed.notify_all()
        if room is not None:
            self._ring(room.set)

    def _finish(self) -> None:
        """Nothing more will be received, nor taken by whoever is gone."""
        with self._changed:
            self._ended = True
            arrived, self._arrived = self._arrived, None
        self._break()
        if arrived is not None:
            self._ring(arrived.set)

    def _cut(self) -> None:
        """End it now, from any thread; the threads leave their calls."""
        self._finish()
        with self._changed:
            connection = self._connection
        for open_socket in (connection, self._listener):
            if open_socket is not None:
                # who is in a call with it is woken by the one on POSIX systems, by the other on Windows
                with contextlib.suppress(OSError):
                    open_socket.shutdown(socket.SHUT_RDWR)
                open_socket.close()

    def _join(self) -> None:
        for thread in self._threads:
            thread.join(_JOIN)


def _listens(listener: socket.socket) -> bool:
    with contextlib.suppress(OSError):
        return listener.fileno() >= 0 and bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    return False
