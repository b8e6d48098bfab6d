"""The streams of a machine that leave it through the bridge: its serial port, its agent's port, those of its shares."""

import contextlib
import select
import socket
import threading
from collections.abc import Callable

_CONSOLE_BACKLOG = 1 << 20
_DRAIN_TIMEOUT = 5.0
_SILENCE = 0.1
"""Seconds without a word after which a port that the guest has closed counts as read to its end."""


class Console:
    """The serial port: kept while nobody listens, then passed on."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._listener: socket.socket | None = None
        self._ended = False
        self._lock = threading.Lock()

    def pump(self, serial: socket.socket, goes_on: Callable[[], bool]) -> None:
        """Read the serial port to its end, which is the console's unless `goes_on` says that another one follows."""
        with serial:
            while data := receive(serial):
                with self._lock:
                    self._kept += data
                    del self._kept[:-_CONSOLE_BACKLOG]
                    listener = self._listener
                if listener is not None:
                    self._pass_on(listener, data)
        if goes_on():
            return
        with self._lock:
            self._ended = True
            if self._listener is not None:
                self._listener.close()

    def attach(self, listener: socket.socket) -> None:
        """Give `listener` what was kept, and from now on what comes; it is closed at the end."""
        with self._lock:
            self._pass_on(listener, bytes(self._kept))
            former, self._listener = self._listener, listener
            if former is not None:
                former.close()
            if self._ended:
                listener.close()

    def tail(self, length: int) -> bytes:
        """The last `length` bytes that were said."""
        with self._lock:
            return bytes(self._kept[-length:])

    def _pass_on(self, listener: socket.socket, data: bytes) -> None:
        try:
            listener.sendall(data)
        except OSError:
            self._listener = None
            listener.close()


class GuestPort:
    """The guest has opened a port: a connection to the listener of the host, and both directions of it."""

    def __init__(self, guest: socket.socket, dial: Callable[[], socket.socket | None]) -> None:
        self._guest = guest
        self._host: socket.socket | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._relay, args=(dial,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The guest has closed it, or is gone: what it said before is passed on, then the connection ends."""
        self._closing = True
        self._thread.join(_DRAIN_TIMEOUT)
        if self._host is not None:
            with contextlib.suppress(OSError):
                self._host.shutdown(socket.SHUT_RDWR)

    def _relay(self, dial: Callable[[], socket.socket | None]) -> None:
        self._host = dial()
        if self._host is None:
            return
        with self._host:
            threading.Thread(target=pass_on, args=(self._host, self._guest), daemon=True).start()
            with contextlib.suppress(OSError):
                while self._has_data() and (data := receive(self._guest)):
                    self._host.sendall(data)
                self._host.shutdown(socket.SHUT_WR)

    def _has_data(self) -> bool:
        while not (ready := select.select([self._guest], [], [], _SILENCE)[0]):
            if self._closing:
                break
        return bool(ready)


def pass_on(source: socket.socket, target: socket.socket) -> None:
    """Copy until the end of the one, which becomes that of the other."""
    with contextlib.suppress(OSError):
        while data := receive(source):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def receive(source: socket.socket) -> bytes:
    """Up to 64 KiB; nothing at the end, however it came."""
    try:
        return source.recv(1 << 16)
    except OSError:
        return b""
