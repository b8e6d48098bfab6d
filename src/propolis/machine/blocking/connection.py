"""Connections without async: derived from `agent.connection` by tools/gen_blocking.py; do not edit."""

from typing import Self

from propolis.agent import connection
from propolis.machine.blocking.portal import Twin


class Connection(Twin[connection.Connection]):
    """A byte stream to a TCP port or unix socket in the guest. One task may send while another receives."""

    def __enter__(self) -> Self:
        """Use the connection; it is ended on leaving."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """End it."""
        self.aclose()

    def receive(self, max_bytes: int = 65536) -> bytes:
        """Return the next bytes, at least one; `b""` once the other side has ended.

        Raises:
            MachineLost: the machine went away.
        """
        return self._call(lambda: self._source.receive(max_bytes))

    def send(self, data: bytes) -> None:
        """Send all of `data`; returns when it is on its way.

        Raises:
            BrokenPipeError: the other side has ended.
            MachineLost: the machine went away.
        """
        return self._call(lambda: self._source.send(data))

    def send_eof(self) -> None:
        """Tell the other side that nothing more will come; what it says can still be received."""
        return self._call(self._source.send_eof)

    def aclose(self) -> None:
        """End the connection. Idempotent."""
        return self._call(self._source.aclose)
