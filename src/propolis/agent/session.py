"""The host's side of the agent protocol without I/O: bytes in, events out; calls in, bytes out.

The guest is not trusted: every length and every order of frames is checked here, and whatever it gets wrong is a
`ProtocolError`, after which the session must not be used. Follows `wire.py`; knows nothing of channels and time.

A stream is STARTING from EXEC or START on, RUNNING from STARTED on, and forgotten after FAILED or EXIT. Streams are
numbered upwards from 1 and never reused, so a frame for a stream that is forgotten or was never opened is a lie.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from propolis import spec
from propolis.agent import wire
from propolis.agent.wire import Failure, Flag, FrameType, SignalScope, Source
from propolis.errors import InvalidArgument, ProtocolError


class StreamState(Enum):
    """Where one process' stream is, as the host sees it."""

    STARTING = auto()
    RUNNING = auto()
    CLOSED = auto()


TRANSITIONS: dict[StreamState, dict[FrameType, StreamState]] = {
    StreamState.STARTING: {
        FrameType.STARTED: StreamState.RUNNING,
        FrameType.FAILED: StreamState.CLOSED,
    },
    StreamState.RUNNING: {
        FrameType.STDOUT: StreamState.RUNNING,
        FrameType.STDERR: StreamState.RUNNING,
        FrameType.CREDIT: StreamState.RUNNING,
        FrameType.STDIN_CLOSED: StreamState.RUNNING,
        FrameType.EXIT: StreamState.CLOSED,
    },
    StreamState.CLOSED: {},
}
"""What the guest may send on a stream, and where that leads. Anything else is a protocol error."""

CONNECTION_FRAMES = frozenset({FrameType.HELLO, FrameType.PONG})
"""What the guest may send on stream 0: HELLO first and once, then answers to PING."""

MAX_PINGS = 64


@dataclass(frozen=True, slots=True)
class Hello:
    """The guest is there. `stamps` are milliseconds since its kernel began: init, disks, root, ready."""

    release: str
    machine: str
    stamps: dict[str, int]


@dataclass(frozen=True, slots=True)
class Started:
    """The process runs."""

    stream: int
    pid: int


@dataclass(frozen=True, slots=True)
class Output:
    """Bytes from the process."""

    stream: int
    source: Source
    data: bytes


@dataclass(frozen=True, slots=True)
class Credit:
    """This many more bytes of standard input may be sent."""

    stream: int
    amount: int


@dataclass(frozen=True, slots=True)
class InputClosed:
    """The process no longer reads its standard input."""

    stream: int


@dataclass(frozen=True, slots=True)
class Exited:
    """The process has ended and all its output has come. `signal` is 0 when it exited by itself."""

    stream: int
    code: int
    signal: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The process could not be started."""

    stream: int
    failure: Failure
    text: str


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to the oldest ping that has none yet."""

    token: int


StreamEvent = Started | Output | Credit | InputClosed | Exited | Failed
Event = Hello | Pong | StreamEvent


class _Stream:
    __slots__ = ("allowance", "input_credit", "input_open", "state")

    def __init__(self, credit: int) -> None:
        self.state = StreamState.STARTING
        self.allowance = {Source.STDOUT: credit, Source.STDERR: credit}
        self.input_credit = 0
        self.input_open = True


class Session:
    """One connection to a guest's agent.

    Methods that return bytes want them sent in the order of the calls. They raise `InvalidArgument` for values that no
    frame can carry; signals, sizes and grants for a stream that has ended are dropped (empty bytes), because the end
    may have come a moment before the call.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._streams: dict[int, _Stream] = {}
        self._last_stream = 0
        self._greeted = False
        self._pings: list[int] = []
        self._handlers: dict[FrameType, Callable[[int, memoryview], Event]] = {
            FrameType.HELLO: self._hello,
            FrameType.PONG: self._pong,
            FrameType.STARTED: self._started,
            FrameType.STDOUT: self._stdout,
            FrameType.STDERR: self._stderr,
            FrameType.CREDIT: self._credit,
            FrameType.STDIN_CLOSED: self._stdin_closed,
            FrameType.EXIT: self._exit,
            FrameType.FAILED: self._failed,
        }

    # --- from the guest

    def receive(self, data: bytes | memoryview) -> Iterator[Event]:
        """Yield the events of the frames that are complete with `data`. Exhaust it before the next call.

        Raises:
            ProtocolError: the guest broke the protocol; events before that were yielded.
        """
        self._buffer += data
        at, end = 0, len(self._buffer)
        try:
            with memoryview(self._buffer) as view:
                while end - at >= wire.HEADER.size:
                    length, number, flags, zero, stream = wire.HEADER.unpack_from(view, at)
                    if length > wire.MAX_PAYLOAD or flags or zero:
                        raise ProtocolError(f"the guest sent a malformed frame header (length {length}, type {number})")
                    if end - at < wire.HEADER.size + length:
                        break
                    at += wire.HEADER.size
                    with view[at : at + length] as payload:
                        at += length
                        yield self._dispatch(number, stream, payload)
        finally:
            del self._buffer[:at]

    def _dispatch(self, number: int, stream: int, payload: memoryview) -> Event:
        handler = self._handlers.get(number)  # type: ignore[call-overload]  # an IntEnum key is found by its number
        if handler is None:
            raise ProtocolError(f"the guest sent a frame of unknown type {number}")
        kind = FrameType(number)
        if (stream == 0) != (kind in CONNECTION_FRAMES) or self._greeted == (kind is FrameType.HELLO):
            raise ProtocolError(f"the guest sent {kind.name} on stream {stream} out of order")
        if stream:
            known = self._streams.get(stream)
            state = TRANSITIONS[known.state].get(kind) if known else None
            if known is None or state is None:
                raise ProtocolError(f"the guest sent {kind.name} on stream {stream}, where it may not come now")
            known.state = state
        event: Event = handler(stream, payload)
        if stream and known and known.state is StreamState.CLOSED:
            del self._streams[stream]
        return event

    def _hello(self, _stream: int, payload: memoryview) -> Event:
        try:
            document = json.loads(bytes(payload))
        except (ValueError, RecursionError):
            raise ProtocolError("the guest's greeting is not JSON") from None
        generation = document.get("generation") if isinstance(document, dict) else None
        if generation != wire.GENERATION or isinstance(generation, bool):
            raise ProtocolError(
                f"the guest speaks agent protocol {str(generation)[:32]!r}, this propolis speaks {wire.GENERATION}",
                hint="the guest's init and this package are of different versions: rebuild or reinstall propolis",
            )
        hello = _read_hello(document)
        if hello is None:
            raise ProtocolError("the guest's greeting lacks its release, machine or stamps")
        self._greeted = True
        return hello

    def _pong(self, _stream: int, payload: memoryview) -> Event:
        (token,) = _unpack(wire.U64, payload, FrameType.PONG)
        if not self._pings or self._pings.pop(0) != token:
            raise ProtocolError("the guest answered a ping that was not sent")
        return Pong(token)

    def _started(self, stream: int, payload: memoryview) -> Event:
        (pid,) = _unpack(wire.U32, payload, FrameType.STARTED)
        if not pid:
            raise ProtocolError("the guest started a process without a number")
        return Started(stream, pid)

    def _stdout(self, stream: int, payload: memoryview) -> Event:
        return self._output(stream, Source.STDOUT, payload)

    def _stderr(self, stream: int, payload: memoryview) -> Event:
        return self._output(stream, Source.STDERR, payload)

    def _output(self, stream: int, source: Source, payload: memoryview) -> Event:
        allowance = self._streams[stream].allowance
        allowance[source] -= len(payload)
        if not payload or allowance[source] < 0:
            raise ProtocolError(f"the guest sent {len(payload)} bytes of {source.name} beyond its credit")
        return Output(stream, source, bytes(payload))

    def _credit(self, stream: int, payload: memoryview) -> Event:
        (amount,) = _unpack(wire.U32, payload, FrameType.CREDIT)
        known = self._streams[stream]
        known.input_credit += amount
        if not amount or known.input_credit > wire.STDIN_WINDOW:
            raise ProtocolError(f"the guest granted {amount} bytes of standard input, more than its window")
        return Credit(stream, amount)

    def _stdin_closed(self, stream: int, payload: memoryview) -> Event:
        known = self._streams[stream]
        if payload or not known.input_open:
            raise ProtocolError("the guest closed standard input twice")
        known.input_open = False
        return InputClosed(stream)

    def _exit(self, stream: int, payload: memoryview) -> Event:
        code, signal = _unpack(wire.U32_PAIR, payload, FrameType.EXIT)
        if code > 255 or signal > 127 or (code and signal):
            raise ProtocolError(f"the guest reported an impossible exit (status {code}, signal {signal})")
        return Exited(stream, code, signal)

    def _failed(self, stream: int, payload: memoryview) -> Event:
        if not wire.U32.size <= len(payload) <= wire.U32.size + wire.MAX_TEXT:
            raise ProtocolError("the guest sent FAILED of the wrong size")
        (number,) = wire.U32.unpack_from(payload)
        try:
            failure = Failure(number)
        except ValueError:
            raise ProtocolError(f"the guest sent an unknown failure {number}") from None
        return Failed(stream, failure, _printable(bytes(payload[wire.U32.size :]).decode("utf-8", "replace")))

    # --- to the guest

    def exec(self, process: spec.Process, credit: int) -> tuple[int, bytes]:
        """Open a stream for a new process; `credit` is the first grant for each of its outputs.

        Raises:
            InvalidArgument: a string holds a NUL, or all of it together is too long.
        """
        for text in (*process.argv, *process.env, *process.groups, process.working_dir, process.user):
            if "\0" in text:
                raise InvalidArgument(f"an argument or environment entry holds a NUL byte: {text[:60]!r}")
        return self.forward(process.to_json() | {"credit": credit})

    def forward(self, document: dict[str, Any]) -> tuple[int, bytes]:
        """Open a stream for what another session's EXEC asks for; `document` has its `credit`.

        Raises:
            InvalidArgument: it is too long.
        """
        return self._open(FrameType.EXEC, document)

    def start(self, credit: int) -> tuple[int, bytes]:
        """Open the stream of the process that `/.propolis_init.json` describes."""
        return self._open(FrameType.START, {"credit": credit})

    def _open(self, kind: FrameType, document: dict[str, Any]) -> tuple[int, bytes]:
        text = json.dumps(document, separators=(",", ":")).encode("ascii")
        if len(text) > wire.MAX_DOCUMENT:
            raise InvalidArgument(
                f"arguments and environment take {len(text)} bytes in the request, at most {wire.MAX_DOCUMENT}",
                hint="pass long data through standard input or a file",
            )
        self._last_stream += 1
        self._streams[self._last_stream] = _Stream(document["credit"])
        pieces = [text[at : at + wire.MAX_PAYLOAD] for at in range(0, len(text), wire.MAX_PAYLOAD)]
        frames = [wire.pack(kind, self._last_stream, piece, Flag.MORE) for piece in pieces[:-1]]
        return self._last_stream, b"".join([*frames, wire.pack(kind, self._last_stream, pieces[-1])])

    def input_credit(self, stream: int) -> int:
        """How many bytes of standard input may be sent now; 0 for a stream that has ended."""
        known = self._streams.get(stream)
        return known.input_credit if known else 0

    def stdin(self, stream: int, data: bytes | memoryview) -> bytes:
        """Send standard input, at most `input_credit` and `MAX_PAYLOAD` bytes, at least one."""
        known = self._streams.get(stream)
        if known is None:
            return b""
        if not 0 < len(data) <= min(known.input_credit, wire.MAX_PAYLOAD):
            raise InvalidArgument(f"{len(data)} bytes of standard input do not fit the credit")
        known.input_credit -= len(data)
        return wire.pack(FrameType.STDIN, stream, data)

    def stdin_eof(self, stream: int) -> bytes:
        """End standard input; send nothing after it."""
        return self._small(FrameType.STDIN_EOF, stream, b"")

    def signal(self, stream: int, number: int, scope: SignalScope = SignalScope.GROUP) -> bytes:
        """Send a signal to the process or its group."""
        if not 1 <= number <= 64:
            raise InvalidArgument(f"there is no signal {number}")
        return self._small(FrameType.SIGNAL, stream, wire.U32_PAIR.pack(number, scope))

    def resize(self, stream: int, rows: int, columns: int) -> bytes:
        """Tell the size of the terminal."""
        if not (0 <= rows <= 0xFFFF and 0 <= columns <= 0xFFFF):
            raise InvalidArgument(f"a terminal cannot have {rows} rows and {columns} columns")
        return self._small(FrameType.RESIZE, stream, wire.U16_PAIR.pack(rows, columns))

    def allowance(self, stream: int, source: Source) -> int:
        """How many bytes of one output the guest may still send; 0 for a stream that has ended."""
        known = self._streams.get(stream)
        return known.allowance[source] if known else 0

    def grant(self, stream: int, source: Source, amount: int) -> bytes:
        """Let the guest send `amount` more bytes of one output."""
        known = self._streams.get(stream)
        if known is None or not amount:
            return b""
        known.allowance[source] += amount
        return self._small(FrameType.GRANT, stream, wire.U32_PAIR.pack(source, amount))

    def _small(self, kind: FrameType, stream: int, payload: bytes) -> bytes:
        return wire.pack(kind, stream, payload) if stream in self._streams else b""

    def ping(self, token: int) -> bytes:
        """Ask for a Pong."""
        if len(self._pings) >= MAX_PINGS:
            raise InvalidArgument(f"{MAX_PINGS} pings are under way already")
        self._pings.append(token)
        return wire.pack(FrameType.PING, 0, wire.U64.pack(token))

    def clock(self, nanoseconds: int) -> bytes:
        """Tell the time, in nanoseconds since 1970."""
        return wire.pack(FrameType.CLOCK, 0, wire.U64.pack(max(nanoseconds, 0)))

    def shutdown(self, grace: float) -> bytes:
        """Ask the guest to end: `grace` seconds between SIGTERM and SIGKILL."""
        milliseconds = round(grace * 1000)
        if not 0 <= milliseconds <= wire.MAX_GRACE_MS:
            raise InvalidArgument(f"a grace of {grace} s is not between 0 and {wire.MAX_GRACE_MS // 1000} s")
        return wire.pack(FrameType.SHUTDOWN, 0, wire.U32.pack(milliseconds))


def _unpack(layout: Any, payload: memoryview, kind: FrameType) -> tuple[int, ...]:
    if len(payload) != layout.size:
        raise ProtocolError(f"the guest sent {kind.name} of the wrong size")
    values: tuple[int, ...] = layout.unpack(payload)
    return values


def _read_hello(document: dict[str, Any]) -> Hello | None:
    release, machine, stamps = (document.get(key) for key in ("release", "machine", "stamps"))
    if not isinstance(release, str) or not isinstance(machine, str) or not isinstance(stamps, dict):
        return None
    if not all(type(value) is int and 0 <= value < 1 << 63 for value in stamps.values()):
        return None
    return Hello(_printable(release), _printable(machine), {_printable(name): stamps[name] for name in stamps})


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
