"""Processes without async: derived from `agent.process` by tools/gen_blocking.py; do not edit."""

from collections.abc import Iterator

from anyio.from_thread import BlockingPortal

from propolis.agent import process
from propolis.agent.process import ExitStatus
from propolis.agent.signals import Signal
from propolis.agent.wire import SignalScope
from propolis.machine.blocking.portal import Twin


class OutputStream(Twin[process.OutputStream]):
    """Standard output or standard error of a process."""

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over what `receive` returns, up to the end."""
        while piece := self.receive():
            yield piece

    def receive(self, max_bytes: int = 65536) -> bytes:
        """Return the next bytes, at least one; `b""` at the end of the stream.

        Raises:
            MachineLost: the machine went away; what had come before was returned first.
            ProtocolError: likewise, because the guest broke the protocol.
        """
        return self._call(lambda: self._source.receive(max_bytes))

    def read(self) -> bytes:
        """Return everything up to the end of the stream. The caller's memory is the only bound."""
        return self._call(self._source.read)

    def aclose(self) -> None:
        """Take no more: what is buffered and what still comes is dropped, and the process is not held up."""
        return self._call(self._source.aclose)


class InputStream(Twin[process.InputStream]):
    """Standard input of a process. For one task at a time."""

    def send(self, data: bytes | memoryview) -> None:
        """Send all of `data`; returns when the guest has room for it and it is on its way.

        Raises:
            BrokenPipeError: the process no longer reads, has ended, or this stream was closed.
            MachineLost: the machine went away.
            ProtocolError: the guest broke the protocol.
        """
        return self._call(lambda: self._source.send(data))

    def aclose(self) -> None:
        """End of file: the process reads what was sent, then the end. Idempotent."""
        return self._call(self._source.aclose)


class GuestProcess(Twin[process.GuestProcess]):
    """A process that runs in the guest. Take both outputs or close them: a full one stops the process."""

    def __init__(self, source: process.GuestProcess, portal: BlockingPortal) -> None:
        """Not to be called: use `machine.open`."""
        super().__init__(source, portal)
        self.pid = source.pid
        self.stdin = InputStream(source.stdin, portal)
        self.stdout = OutputStream(source.stdout, portal)
        self.stderr = OutputStream(source.stderr, portal)

    def wait(self) -> ExitStatus:
        """Wait until the process has ended and all its output has come into the buffers.

        Raises:
            MachineLost: the machine went away first.
            ProtocolError: the guest broke the protocol.
        """
        return self._call(self._source.wait)

    def signal(self, signal: Signal, scope: SignalScope = SignalScope.GROUP) -> None:
        """Send a signal to the process' group or to it alone. Nothing happens once it has ended.

        Args:
            signal: a name ("TERM", "SIGTERM"), a member of Python's `signal`, or Linux' number.
            scope: whom it reaches.

        Raises:
            InvalidArgument: no such signal.
        """
        return self._call(lambda: self._source.signal(signal, scope))

    def resize(self, rows: int, columns: int) -> None:
        """Tell the process' terminal its size. Without a terminal nothing happens.

        Raises:
            InvalidArgument: a size that no terminal has.
        """
        return self._call(lambda: self._source.resize(rows, columns))
