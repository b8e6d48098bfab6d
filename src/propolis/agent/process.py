"""One process in the guest, as a caller holds it: streams, signals, exit.

Knows the session and how bytes leave (a `Link`), not the channel. Everything here runs in the event loop; nothing here
may be used from another thread.
"""

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import anyio
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from propolis.agent import session as events
from propolis.agent import wire
from propolis.agent.session import Session, StreamEvent
from propolis.agent.signals import Signal, signal_number
from propolis.agent.wire import Failure, SignalScope, Source
from propolis.errors import (
    CommandNotExecutable,
    CommandNotFound,
    MachineError,
    MachineLost,
    ProcessError,
    ProtocolError,
)

WINDOW = 1 << 20
"""Bytes of one output that may be under way or waiting for the caller."""


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended: its exit code, or the signal that killed it (0: none; then `code` is what it returned)."""

    code: int
    signal: int = 0

    @property
    def shell_code(self) -> int:
        """One number as shells have it: the exit code, or 128 + signal."""
        return 128 + self.signal if self.signal else self.code


class Link(Protocol):
    """What a process needs of its connection."""

    session: Session

    def post(self, data: bytes) -> None:
        """Queue bytes for the guest; dropped once the connection has ended."""

    async def flushed(self) -> None:
        """Wait until all that was queued has been handed to the channel, or the connection has ended."""


class StreamListener(Protocol):
    """Whoever holds a stream of the connection."""

    def take(self, event: StreamEvent) -> None:
        """Something has come on the stream; `Exited` and `Failed` are the last of it."""

    def lost(self, error: MachineError) -> None:
        """The connection has ended before the stream."""


def again(error: MachineError) -> MachineError:
    """Return a fresh copy of the error that ended the connection, so that each waiter raises its own."""
    fresh = (
        ProtocolError(str(error), hint=error.hint)
        if isinstance(error, ProtocolError)
        else MachineLost(str(error), hint=error.hint)
    )
    fresh.__cause__ = error
    return fresh


class Waiters:
    """Wakes every task that waits for a change."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def wake(self) -> None:
        """Something has changed."""
        event, self._event = self._event, anyio.Event()
        event.set()

    async def wait(self) -> None:
        """Wait for the next change."""
        await self._event.wait()


class OutputStream:
    """Standard output or standard error of a process."""

    def __init__(self, link: Link, stream: int, source: Source) -> None:
        self._link, self._stream, self._source = link, stream, source
        self._pieces: deque[bytes] = deque()
        self._taken = 0
        self._ended = False
        self._discarding = False
        self._error: MachineError | None = None
        self._changed = Waiters()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return the next bytes, at least one; `b""` at the end of the stream.

        Raises:
            MachineLost: the machine went away; what had come before was returned first.
            ProtocolError: likewise, because the guest broke the protocol.
        """
        await checkpoint_if_cancelled()
        while not self._pieces:
            if self._error is not None:
                raise again(self._error)
            if self._ended or self._discarding:
                await checkpoint()
                return b""
            await self._changed.wait()
        piece = self._pieces.popleft()
        if len(piece) > max_bytes:
            self._pieces.appendleft(piece[max_bytes:])
            piece = piece[:max_bytes]
        self._took(len(piece))
        return piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over what `receive` returns, up to the end."""
        while piece := await self.receive():
            yield piece

    async def read(self) -> bytes:
        """Return everything up to the end of the stream. The caller's memory is the only bound."""
        return b"".join([piece async for piece in self])

    async def aclose(self) -> None:
        """Take no more: what is buffered and what still comes is dropped, and the process is not held up."""
        self.discard()
        await checkpoint()

    def discard(self) -> None:
        """Like `aclose`, at once."""
        self._discarding = True
        self._took(sum(map(len, self._pieces)))
        self._pieces.clear()
        self._changed.wake()

    def _took(self, amount: int) -> None:
        self._taken += amount
        if self._taken >= WINDOW // 4:
            self._link.post(self._link.session.grant(self._stream, self._source, self._taken))
            self._taken = 0

    def feed(self, data: bytes) -> None:
        """For the connection: bytes have come."""
        if self._discarding:
            self._took(len(data))
        else:
            self._pieces.append(data)
            self._changed.wake()

    def end(self, error: MachineError | None) -> None:
        """For the connection: no more will come."""
        self._ended, self._error = True, error
        self._changed.wake()


class InputStream:
    """Standard input of a process. For one task at a time."""

    def __init__(self, link: Link, stream: int) -> None:
        self._link, self._stream = link, stream
        self._closed = False
        self._broken = False
        self._error: MachineError | None = None
        self._changed = Waiters()

    async def send(self, data: bytes | memoryview) -> None:
        """Send all of `data`; returns when the guest has room for it and it is on its way.

        Raises:
            BrokenPipeError: the process no longer reads, has ended, or this stream was closed.
            MachineLost: the machine went away.
            ProtocolError: the guest broke the protocol.
        """
        await checkpoint_if_cancelled()
        rest = memoryview(data)
        while rest:
            self._check()
            credit = min(len(rest), self._link.session.input_credit(self._stream))
            if not credit:
                await self._changed.wait()
                continue
            for start in range(0, credit, wire.MAX_PAYLOAD):
                frame = rest[start : min(start + wire.MAX_PAYLOAD, credit)]
                self._link.post(self._link.session.stdin(self._stream, frame))
            rest = rest[credit:]
            await self._link.flushed()

    def _check(self) -> None:
        if self._error is not None:
            raise again(self._error)
        if self._closed or self._broken:
            raise BrokenPipeError(
                "standard input is closed" if self._closed else "the process no longer reads its input"
            )

    async def aclose(self) -> None:
        """End of file: the process reads what was sent, then the end. Idempotent."""
        self.finish()
        await checkpoint()

    def finish(self) -> None:
        """Like `aclose`, at once."""
        if not self._closed:
            self._closed = True
            self._link.post(self._link.session.stdin_eof(self._stream))

    def credit(self) -> None:
        """For the connection: the guest has room again."""
        self._changed.wake()

    def end(self, error: MachineError | None) -> None:
        """For the connection: nobody reads any more."""
        self._broken, self._error = True, error
        self._changed.wake()


class GuestProcess:
    """A process that runs in the guest. Take both outputs or close them: a full one stops the process."""

    def __init__(self, link: Link, stream: int) -> None:
        self._link, self._stream = link, stream
        self._abandoned = False
        self._status: ExitStatus | None = None
        self._error: MachineError | None = None
        self._answered = anyio.Event()
        self._ended = anyio.Event()
        self.pid = 0
        self.stdin = InputStream(link, stream)
        self.stdout = OutputStream(link, stream, Source.STDOUT)
        self.stderr = OutputStream(link, stream, Source.STDERR)

    async def wait(self) -> ExitStatus:
        """Wait until the process has ended and all its output has come into the buffers.

        Raises:
            MachineLost: the machine went away first.
            ProtocolError: the guest broke the protocol.
        """
        await self._ended.wait()
        if self._status is None:
            raise again(self._error or MachineLost("the machine went away"))
        return self._status

    async def signal(self, signal: Signal, scope: SignalScope = SignalScope.GROUP) -> None:
        """Send a signal to the process' group or to it alone. Nothing happens once it has ended.

        Args:
            signal: a name ("TERM", "SIGTERM"), a member of Python's `signal`, or Linux' number.
            scope: whom it reaches.

        Raises:
            InvalidArgument: no such signal.
        """
        self._link.post(self._link.session.signal(self._stream, signal_number(signal), scope))
        await self._link.flushed()

    async def resize(self, rows: int, columns: int) -> None:
        """Tell the process' terminal its size. Without a terminal nothing happens.

        Raises:
            InvalidArgument: a size that no terminal has.
        """
        self._link.post(self._link.session.resize(self._stream, rows, columns))
        await self._link.flushed()

    async def answered(self) -> None:
        """For the connection: wait until the process runs.

        Raises:
            ProcessError: it could not be started; also as CommandNotFound and CommandNotExecutable.
            MachineLost: the machine went away.
            ProtocolError: the guest broke the protocol.
        """
        await self._answered.wait()
        if self._error is not None and not self.pid:
            raise self._error if isinstance(self._error, ProcessError) else again(self._error)

    def abandon(self) -> None:
        """For the connection: the caller is gone before it held the process; kill it, now or once it runs."""
        self._abandoned = True
        self.unheard()
        if self.pid:
            self._link.post(self._link.session.signal(self._stream, _SIGKILL))

    def unheard(self) -> None:
        """For the connection: drop all output; the process goes on."""
        self.stdout.discard()
        self.stderr.discard()

    def take(self, event: StreamEvent) -> None:
        """For the connection: something has come."""
        match event:
            case events.Output(_, source, data):
                (self.stdout if source is Source.STDOUT else self.stderr).feed(data)
            case events.Credit():
                self.stdin.credit()
            case events.InputClosed():
                self.stdin.end(None)
            case events.Started(_, pid):
                self.pid = pid
                self._answered.set()
                if self._abandoned:
                    self.abandon()
            case events.Exited(_, code, signal):
                self._status = ExitStatus(code, signal)
                self._end(None)
            case events.Failed(_, failure, text):
                self._end(process_error(failure, text))

    def lost(self, error: MachineError) -> None:
        """For the connection: the machine is gone."""
        self._end(error)

    def _end(self, error: MachineError | None) -> None:
        self._error = error
        self.stdin.end(error)
        self.stdout.end(error)
        self.stderr.end(error)
        self._answered.set()
        self._ended.set()


_SIGKILL = 9

_HINTS = {
    Failure.INVALID: "",
    Failure.NOT_FOUND: "check its spelling, the image's PATH, and that the image has it",
    Failure.NOT_EXECUTABLE: "name a program that has the right mode bits and is built for the guest's architecture",
    Failure.USER: "name a user of the image's /etc/passwd, or give numbers (uid:gid), which need no entry",
    Failure.WORKING_DIR: "name a directory that can be entered",
    Failure.RESOURCES: "give the machine more memory, or end some of its processes",
    Failure.SYSTEM: "",
}


def process_error(failure: Failure, text: str) -> ProcessError:
    """Return the error for a process that could not be started; `text` is the guest's own sentence."""
    kinds = {Failure.NOT_FOUND: CommandNotFound, Failure.NOT_EXECUTABLE: CommandNotExecutable}
    return kinds.get(failure, ProcessError)(f"cannot start the process: {text}", hint=_HINTS[failure])
