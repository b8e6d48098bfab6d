"""The guest's side of the agent protocol without I/O, as the owner of a machine plays it for its own clients.

Bytes of a client in, requests out; answers in, bytes out. Clients are this user's own processes: what they get wrong is
a fault, not an attack, but it is bounded all the same. Follows `wire.py`; knows nothing of channels.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from propolis.agent import wire
from propolis.agent.session import Credit, Exited, Failed, Hello, InputClosed, Output, Started, StreamEvent
from propolis.agent.wire import Flag, FrameType, SignalScope, Source
from propolis.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class Open:
    """Start a process: the document of EXEC, whose `credit` has been checked."""

    stream: int
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Input:
    """Standard input, within its credit."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class InputEnd:
    """The end of standard input."""

    stream: int


@dataclass(frozen=True, slots=True)
class Signalled:
    """A signal for the process or its group."""

    stream: int
    number: int
    scope: SignalScope


@dataclass(frozen=True, slots=True)
class Resized:
    """The terminal has another size."""

    stream: int
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Granted:
    """That much more of one output may be sent."""

    stream: int
    source: Source
    amount: int


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The machine shall end; `grace` in seconds."""

    grace: float


@dataclass(frozen=True, slots=True)
class Ping:
    """Whether anybody is there."""

    token: int


StreamRequest = Input | InputEnd | Signalled | Resized | Granted
Request = Open | Shutdown | Ping | StreamRequest


class Responder:
    """One client's connection, seen from its other side. Call `hello` first, and send what it and the others return."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._document = bytearray()
        self._last_stream = 0
        self._input_credit: dict[int, int] = {}
        """Of the streams that are open."""

    # --- from the client

    def receive(self, data: bytes) -> Iterator[Request]:
        """Yield the requests that are complete with `data`; frames for streams that have ended are left out.

        Raises:
            ProtocolError: the client broke the protocol; requests before that were yielded.
        """
        self._buffer += data
        while len(self._buffer) >= wire.HEADER.size:
            length, number, flags, zero, stream = wire.HEADER.unpack_from(self._buffer)
            if length > wire.MAX_PAYLOAD or zero or flags & ~Flag.MORE or number not in _FROM_CLIENTS:
                raise ProtocolError(f"a client sent a malformed frame header (length {length}, type {number})")
            end = wire.HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[wire.HEADER.size : end])
            del self._buffer[:end]
            request = self._dispatch(FrameType(number), stream, payload, more=bool(flags))
            if request is not None:
                yield request

    def _dispatch(self, kind: FrameType, stream: int, payload: bytes, *, more: bool) -> Request | None:
        if kind is FrameType.EXEC:
            return self._exec(stream, payload, more)
        if more or self._document:
            raise ProtocolError(f"a client sent {kind.name} amidst a document")
        if kind in _ON_CONNECTION:
            return _connection_request(kind, payload)
        if not 0 < stream <= self._last_stream:
            raise ProtocolError(f"a client sent {kind.name} on stream {stream}, which it never opened")
        if stream not in self._input_credit:
            return None
        return self._stream_request(kind, stream, payload)

    def _exec(self, stream: int, payload: bytes, more: bool) -> Request | None:
        self._document += payload
        if stream <= self._last_stream or len(self._document) > wire.MAX_DOCUMENT:
            raise ProtocolError("a client sent EXEC on a stream that it has used, or too long a document")
        if more:
            return None
        if len(self._input_credit) >= wire.MAX_STREAMS:
            raise ProtocolError("a client opened more streams than a guest runs processes")
        text, self._document = self._document, bytearray()
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = None
        credit = document.get("credit") if isinstance(document, dict) else None
        if type(credit) is not int or not 0 <= credit <= wire.MAX_CREDIT:
            raise ProtocolError("a client sent EXEC without a document that says its credit")
        self._last_stream, self._input_credit[stream] = stream, 0
        return Open(stream, document)

    def _stream_request(self, kind: FrameType, stream: int, payload: bytes) -> StreamRequest:
        if kind is FrameType.STDIN:
            if not 0 < len(payload) <= self._input_credit[stream]:
                raise ProtocolError("a client sent more standard input than it may")
            self._input_credit[stream] -= len(payload)
            return Input(stream, payload)
        if kind is FrameType.STDIN_EOF:
            return InputEnd(stream)
        if kind is FrameType.RESIZE:
            rows, columns = _numbers(wire.U16_PAIR, payload)
            return Resized(stream, rows, columns)
        first, second = _numbers(wire.U32_PAIR, payload)
        try:
            if kind is FrameType.SIGNAL:
                return Signalled(stream, first, SignalScope(second))
            return Granted(stream, Source(first), min(second, wire.MAX_CREDIT))
        except ValueError:
            raise ProtocolError(f"a client sent {kind.name} with numbers that mean nothing") from None

    # --- to the client

    def hello(self, hello: Hello) -> bytes:
        """The greeting, as the guest's own."""
        document = {
            "generation": wire.GENERATION,
            "release": hello.release,
            "machine": hello.machine,
            "stamps": hello.stamps,
        }
        return wire.pack(FrameType.HELLO, 0, json.dumps(document).encode())

    def pong(self, token: int) -> bytes:
        """The answer to a ping."""
        return wire.pack(FrameType.PONG, 0, wire.U64.pack(token))

    def answer(self, stream: int, event: StreamEvent) -> bytes:
        """What has come on a stream of the guest's, on the client's stream; nothing once that has ended."""
        if stream not in self._input_credit:
            return b""
        match event:
            case Output(_, source, data):
                return wire.pack(FrameType.STDOUT if source is Source.STDOUT else FrameType.STDERR, stream, data)
            case Credit(_, amount):
                self._input_credit[stream] += amount
                return wire.pack(FrameType.CREDIT, stream, wire.U32.pack(amount))
            case Started(_, pid):
                return wire.pack(FrameType.STARTED, stream, wire.U32.pack(pid))
            case InputClosed():
                return wire.pack(FrameType.STDIN_CLOSED, stream)
            case Exited(_, code, signal):
                del self._input_credit[stream]
                return wire.pack(FrameType.EXIT, stream, wire.U32_PAIR.pack(code, signal))
            case Failed(_, failure, text):
                del self._input_credit[stream]
                words = text.encode(errors="replace")[: wire.MAX_TEXT]
                return wire.pack(FrameType.FAILED, stream, wire.U32.pack(failure) + words)


_ON_CONNECTION = frozenset({FrameType.SHUTDOWN, FrameType.PING, FrameType.CLOCK})
_FROM_CLIENTS = frozenset({kind for kind in FrameType if kind < FrameType.HELLO} - {FrameType.START})


def _connection_request(kind: FrameType, payload: bytes) -> Request | None:
    if kind is FrameType.PING:
        return Ping(*_numbers(wire.U64, payload))
    if kind is FrameType.SHUTDOWN:
        (milliseconds,) = _numbers(wire.U32, payload)
        return Shutdown(min(milliseconds, wire.MAX_GRACE_MS) / 1000)
    return None  # CLOCK: the owner tells the guest the time


def _numbers(layout: Any, payload: bytes) -> tuple[int, ...]:
    if len(payload) != layout.size:
        raise ProtocolError("a client sent a frame of the wrong size")
    values: tuple[int, ...] = layout.unpack(payload)
    return values
