"""One client of a machine's owner: its streams are joined to streams of the owner's connection to the guest.

The client numbers its streams, the connection numbers its own; frames get the other number and nothing else. Credit is
passed on as it is, so what waits here for a client is never more than the client itself has granted, and a client that
stops reading stops its own processes only.

Programs of the owner (`host.attach`, ...) are called like builtins of the guest's agent, and answered here.
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
from anyio.abc import TaskGroup

from propolis.agent import responder, wire
from propolis.agent.client import AgentClient
from propolis.agent.process import ExitStatus, Waiters
from propolis.agent.responder import Responder
from propolis.agent.session import Credit, Exited, Failed, Hello, Output, Started, StreamEvent
from propolis.agent.wire import Failure, SignalScope, Source
from propolis.channel import ByteChannel
from propolis.errors import InvalidArgument, MachineError, ProtocolError

DETACH = "host.detach"
"""The program that ends a connection whose processes shall go on. Whatever the client sends after it is dropped."""
_PREFIX = "host."
_READ = 262144
_MOST_WAITING = 4 << 20
"""Bytes that wait for a client, after which it is not listened to: it takes nothing of what it asks for."""
_PARTING = 2.0
"""Seconds in which a client takes what was for it before the machine's end."""


class Served:
    """A program of the owner's as it sees itself: its arguments, its streams, what its client asks of it."""

    def __init__(self, relay: "Relay", stream: int, argv: tuple[str, ...], credit: int) -> None:
        self.argv = argv
        self.signalled: Callable[[int, SignalScope], Awaitable[None]] | None = None
        self.resized: Callable[[int, int], Awaitable[None]] | None = None
        self._relay, self._stream = relay, stream
        self._credit = {Source.STDOUT: credit, Source.STDERR: credit}
        self._input = bytearray()
        self._input_ended = False
        self._changed = Waiters()

    async def write(self, data: bytes, source: Source = Source.STDOUT) -> None:
        """Write all of `data`, as the client's credit comes."""
        rest = memoryview(data)
        while rest:
            piece = rest[: min(self._credit[source], wire.MAX_PAYLOAD)]
            if not piece:
                await self._changed.wait()
                continue
            self._credit[source] -= len(piece)
            self._relay.answer(self._stream, Output(self._stream, source, bytes(piece)))
            rest = rest[len(piece) :]

    async def read(self) -> bytes:
        """Return the next bytes of standard input, `b""` at its end; the client may send as much again."""
        while not self._input and not self._input_ended:
            await self._changed.wait()
        data, self._input = bytes(self._input), bytearray()
        if data and not self._input_ended:
            self._relay.answer(self._stream, Credit(self._stream, len(data)))
        return data

    async def take(self, request: responder.StreamRequest) -> None:
        """For the relay: the client asks for something."""
        match request:
            case responder.Input(_, data):
                self._input += data
            case responder.InputEnd():
                self._input_ended = True
            case responder.Granted(_, source, amount):
                self._credit[source] += amount
            case responder.Signalled(_, number, scope):
                if self.signalled is not None:
                    await self.signalled(number, scope)
            case responder.Resized(_, rows, columns):
                if self.resized is not None:
                    await self.resized(rows, columns)
        self._changed.wake()


Program = Callable[[Served], Awaitable[ExitStatus]]


class Relay:
    """A client's connection, for as long as `serve` runs."""

    def __init__(
        self,
        channel: ByteChannel,
        agent: AgentClient,
        hello: Hello,
        programs: Mapping[str, Program],
        shut_down: Callable[[float], None],
        detach: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve `channel`; `shut_down` begins to end the machine, `detach` hears that the client leaves it alone."""
        self._channel, self._agent, self._hello = channel, agent, hello
        self._programs, self._shut_down, self._detach = programs, shut_down, detach
        self._responder = Responder()
        self._forwarded: dict[int, _Forwarded] = {}
        self._served: dict[int, Served] = {}
        self._outgoing: list[bytes] = []
        self._waiting = 0
        self._wanted = Waiters()
        self._progress = Waiters()
        self._gone = anyio.CancelScope()
        self._writing = anyio.CancelScope(shield=True)
        self._parting = False
        self.detached = False

    async def serve(self) -> None:
        """Serve the client until it has left; what it started and did not let go is killed then.

        Cancelled, what is on its way to the client is sent before the connection is closed, if it takes it soon.

        Raises:
            ProtocolError: the client broke the protocol.
            MachineLost: the machine went away.
        """
        self._post(self._responder.hello(self._hello))
        async with anyio.create_task_group() as writing:
            writing.start_soon(self._write)
            try:
                async with anyio.create_task_group() as tasks:
                    self._gone = tasks.cancel_scope
                    await self._read(tasks)
                    tasks.cancel_scope.cancel()
            finally:
                for forwarded in self._forwarded.values():
                    self._agent.leave_behind(forwarded.upstream, forwarded.pid, kill=not self.detached)
                self._forwarded.clear()
                self._parting = True
                self._writing.deadline = anyio.current_time() + _PARTING
                self._wanted.wake()

    async def _read(self, tasks: TaskGroup) -> None:
        while data := await self._channel.receive(_READ):
            for request in self._responder.receive(data):
                if not self.detached:
                    await self._handle(request, tasks)
            while self._waiting > _MOST_WAITING:
                await self._progress.wait()

    async def _write(self) -> None:
        with self._writing:  # from which a cancellation does not take half a frame
            with contextlib.suppress(OSError):
                while self._outgoing or not self._parting:
                    if not self._outgoing:
                        await self._wanted.wait()
                    batch = b"".join(self._outgoing)
                    self._outgoing.clear()
                    await self._channel.send(batch)
                    self._waiting -= len(batch)
                    self._progress.wake()
        self._gone.cancel()
        with anyio.CancelScope(shield=True):
            await self._channel.aclose()

    async def _handle(self, request: responder.Request, tasks: TaskGroup) -> None:
        match request:
            case responder.Open(stream, document):
                await self._open(stream, document, tasks)
            case responder.Ping(token):
                self._post(self._responder.pong(token))
            case responder.Shutdown(grace):
                self._shut_down(grace)
            case _ if request.stream in self._served:
                await self._served[request.stream].take(request)
            case _ if request.stream in self._forwarded:
                await self._forwarded[request.stream].send(request)

    async def _open(self, stream: int, document: dict[str, Any], tasks: TaskGroup) -> None:
        argv = document.get("cmd")
        argv = tuple(map(str, argv)) if isinstance(argv, list) else ()
        name = argv[0] if argv else ""
        if not (document.get("builtin") and name.startswith(_PREFIX)):
            forwarded = self._forwarded[stream] = _Forwarded(self, self._agent, stream)
            try:
                forwarded.upstream = self._agent.forward(document, forwarded)
            except InvalidArgument as error:
                forwarded.take(Failed(stream, Failure.INVALID, str(error)))
            await self._agent.flushed()
        elif name == DETACH:
            self._detach()
            self.detached = True
            self.answer(stream, Started(stream, 1))
            self.answer(stream, Exited(stream, 0, 0))
        elif name in self._programs:
            served = self._served[stream] = Served(self, stream, argv, document["credit"])
            self.answer(stream, Started(stream, 1))
            self.answer(stream, Credit(stream, wire.STDIN_WINDOW))
            tasks.start_soon(self._run, stream, self._programs[name], served)
        else:
            self.answer(stream, Failed(stream, Failure.NOT_FOUND, f"{name}: the machine's owner does not offer that"))

    async def _run(self, stream: int, program: Program, served: Served) -> None:
        status = await program(served)
        del self._served[stream]
        self.answer(stream, Exited(stream, status.code, status.signal))

    def answer(self, stream: int, event: StreamEvent) -> None:
        """For whoever holds a stream: something has come for the client."""
        self._post(self._responder.answer(stream, event))

    def ended(self, stream: int) -> None:
        """For a forwarded stream: nothing more will come."""
        self._forwarded.pop(stream, None)

    def _post(self, data: bytes) -> None:
        self._outgoing.append(data)
        self._waiting += len(data)
        self._wanted.wake()


class _Forwarded:
    """A stream of the client's that is one of the guest's."""

    def __init__(self, relay: Relay, agent: AgentClient, stream: int) -> None:
        self._relay, self._agent, self._stream = relay, agent, stream
        self.upstream = 0
        self.pid = 0

    def take(self, event: StreamEvent) -> None:
        """See `process.StreamListener`."""
        if isinstance(event, Started):
            self.pid = event.pid
        self._relay.answer(self._stream, event)
        if isinstance(event, Exited | Failed):
            self._relay.ended(self._stream)

    def lost(self, error: MachineError) -> None:
        """See `process.StreamListener`; the owner, who hears of it too, closes the connection."""

    async def send(self, request: responder.StreamRequest) -> None:
        """Pass on what the client asks for."""
        session, stream = self._agent.session, self.upstream
        match request:
            case responder.Input(_, data):
                self._agent.post(session.stdin(stream, data))
                await self._agent.flushed()
            case responder.InputEnd():
                self._agent.post(session.stdin_eof(stream))
            case responder.Signalled(_, number, scope):
                self._agent.post(session.signal(stream, number, scope))
            case responder.Resized(_, rows, columns):
                self._agent.post(session.resize(stream, rows, columns))
            case responder.Granted(_, source, amount):
                if session.allowance(stream, source) + amount > wire.MAX_CREDIT:
                    raise ProtocolError("a client granted more than may be outstanding")
                self._agent.post(session.grant(stream, source, amount))
