"""QEMU's monitor for the bridge: QMP over a socket, for threads."""

import contextlib
import socket
import threading
from collections.abc import Callable

from hcs.streams import receive
from propolis.hypervisor.qemu.qmp import Connection, Event, Greeting, Reply

_START_TIMEOUT = 30.0
_REPLY_TIMEOUT = 20.0


class MonitorError(Exception):
    """QEMU refused, or is gone; the text has its words."""


class Monitor:
    """QMP over a socket: one thread reads, others ask in turn."""

    def __init__(self, channel: socket.socket, take_event: Callable[[Event], None]) -> None:
        self._channel = channel
        self._take_event = take_event
        self._connection = Connection()
        self._changed = threading.Condition()
        self._greeted = self._gone = False
        self._replies: list[Reply] = []
        self._turn = threading.Lock()

    def run(self) -> None:
        """Read until QEMU is gone."""
        with contextlib.closing(self._channel):
            while data := receive(self._channel):
                for message in self._connection.receive(data):
                    self._take(message)
            with self._changed:
                self._gone = True
                self._changed.notify_all()

    def _take(self, message: Greeting | Reply | Event) -> None:
        if isinstance(message, Event):
            self._take_event(message)
            return
        with self._changed:
            if isinstance(message, Greeting):
                self._greeted = True
            else:
                self._replies.append(message)
            self._changed.notify_all()

    def negotiate(self) -> None:
        """Wait for the greeting, and answer it."""
        with self._changed:
            self._changed.wait_for(lambda: self._greeted or self._gone, _START_TIMEOUT)
        self.execute("qmp_capabilities")

    def execute(self, name: str, /, **values: object) -> None:
        """Run a command.

        Raises:
            MonitorError: QEMU refused it, or is gone.
        """
        with self._turn:
            with contextlib.suppress(OSError):
                self._channel.sendall(Connection.command(name, **values))
            with self._changed:
                self._changed.wait_for(lambda: self._replies or self._gone, _REPLY_TIMEOUT)
                if not self._replies:
                    raise MonitorError("QEMU is gone")
                reply = self._replies.pop(0)
        if reply.error is not None:
            raise MonitorError(f"QEMU refused {name}: {reply.error}")
