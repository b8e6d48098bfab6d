"""The async driver of the agent protocol: one `ByteChannel`, many processes.

Runs under asyncio and trio. One task reads the channel, one writes it, and one keeps the guest's clock right, so a
caller that is cancelled never leaves half a frame behind. Output waits in buffers no larger than `process.WINDOW`;
credit goes back to the guest as the caller takes bytes, so a process whose output nobody takes stops writing, as with a
pipe.
"""

import time
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup

from propolis import spec
from propolis.agent import session
from propolis.agent.process import WINDOW, GuestProcess, StreamListener, again
from propolis.agent.session import Hello as Hello
from propolis.agent.wire import Source
from propolis.channel import ByteChannel
from propolis.errors import DeadlineExceeded, MachineError, MachineLost, ProtocolError

_READ = 262144
TEND_INTERVAL = 5.0
"""Seconds between two times that the guest is told the time, and asked whether it is there."""
MOST_SILENCE = 120.0
"""Seconds without a byte from a guest that was asked, after which it counts as lost."""


class AgentClient:
    """A connection to the agent of one guest. Enter it, and leave it in the same task; leaving closes the channel.

    Every waiter gets `MachineLost` when the channel ends and `ProtocolError` when the guest breaks the protocol.
    """

    def __init__(self, channel: ByteChannel) -> None:
        self.session = session.Session()
        self._channel = channel
        self._tasks: TaskGroup | None = None
        self._streams: dict[int, StreamListener] = {}
        self._hello: Hello | None = None
        self._error: MachineError | None = None
        self._greeted = anyio.Event()
        self._ended = anyio.Event()
        self._pings: dict[int, anyio.Event] = {}
        self._last_ping = 0
        self._tending = 0
        self._heard = False
        self._outgoing: list[bytes] = []
        self._posted = self._sent = 0
        self._wanted = anyio.Event()
        self._progress = anyio.Event()

    async def __aenter__(self) -> Self:
        """Begin to read and write the channel."""
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._read)
        self._tasks.start_soon(self._write)
        self._tasks.start_soon(self._tend)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Close the channel. An exception of the body comes out as it is, not in a group."""
        assert self._tasks is not None
        self._end(MachineLost("the connection to the machine's agent was closed"))
        self._tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._channel.aclose()
        if isinstance(error, anyio.get_cancelled_exc_class()):
            return await self._tasks.__aexit__(kind, error, trace)
        await self._tasks.__aexit__(None, None, None)
        return None

    async def hello(self, timeout: float) -> Hello:
        """Wait for the guest's greeting, at most `timeout` seconds.

        Raises:
            DeadlineExceeded: it did not come in time.
            MachineLost: the channel ended first.
            ProtocolError: the guest speaks another protocol, or none.
        """
        with anyio.move_on_after(timeout):
            return await self._ready()
        raise DeadlineExceeded(f"the guest's agent did not answer within {timeout:g} s")

    async def _ready(self) -> Hello:
        await self._greeted.wait()
        if self._hello is None or self._error is not None:
            raise again(self._error or MachineLost("the machine went away"))
        return self._hello

    async def exec(self, process: spec.Process, *, input: bool = True) -> GuestProcess:
        """Start a process; returns once it runs. A caller cancelled meanwhile leaves no process behind.

        Without `input` it reads end of file at once, which is told along with the request: one turn less for the guest.

        Raises:
            InvalidArgument: a NUL byte in a string, or more data than a request may have.
            CommandNotFound: the program is not in the image.
            CommandNotExecutable: it is, but cannot be executed.
            ProcessError: user, group, working directory or resources.
            MachineLost: the machine went away.
            ProtocolError: the guest broke the protocol.
        """
        await self._ready()
        return await self._open(*self.session.exec(process, WINDOW), input)

    async def start(self, *, input: bool = True) -> GuestProcess:
        """Start the machine's own process, the one of `/.propolis_init.json`; once per boot. As `exec` otherwise."""
        await self._ready()
        return await self._open(*self.session.start(WINDOW), input)

    async def _open(self, stream: int, request: bytes, input: bool = True) -> GuestProcess:
        process = self._streams[stream] = GuestProcess(self, stream)
        self.post(request)
        if not input:
            process.stdin.finish()
        runs = False
        try:
            await process.answered()
            runs = True
        finally:
            if not runs:
                process.abandon()
        return process

    def forward(self, document: dict[str, Any], listener: StreamListener) -> int:
        """Send another session's EXEC on, its `credit` included; returns the stream, which is `listener`'s.

        Raises:
            InvalidArgument: it is too long.
            MachineLost, ProtocolError: the connection has ended.
        """
        if self._error is not None:
            raise again(self._error)
        stream, request = self.session.forward(document)
        self._streams[stream] = listener
        self.post(request)
        return stream

    def leave_behind(self, stream: int, pid: int, *, kill: bool) -> None:
        """Take a stream from its listener: nobody hears its output any more, and it is killed or let go on."""
        if stream in self._streams:
            process = self._streams[stream] = GuestProcess(self, stream)
            process.pid = pid
            for source in Source:  # what the listener had been sent and never granted again
                missing = WINDOW - self.session.allowance(stream, source)
                self.post(self.session.grant(stream, source, max(missing, 0)))
            process.abandon() if kill else process.unheard()

    async def ping(self) -> float:
        """Return the seconds of one round trip.

        Raises:
            InvalidArgument: too many pings are under way.
            MachineLost: the machine went away.
            ProtocolError: the guest broke the protocol.
        """
        await self._ready()
        self._last_ping += 1
        token, answered = self._last_ping, anyio.Event()
        request = self.session.ping(token)
        self._pings[token] = answered
        begin = time.perf_counter()
        self.post(request)
        await answered.wait()
        if self._error is not None:
            raise again(self._error)
        return time.perf_counter() - begin

    async def shutdown(self, grace: float = 0.0) -> None:
        """Ask the machine to end and wait until its side of the channel is closed; bound the wait yourself.

        `grace` is the time in seconds between SIGTERM and SIGKILL; 0 sends SIGKILL at once.

        Raises:
            InvalidArgument: the grace is out of range.
        """
        self.post(self.session.shutdown(grace))
        await self._ended.wait()

    # --- the two tasks

    async def _read(self) -> None:
        try:
            while data := await self._channel.receive(_READ):
                self._heard = True
                for event in self.session.receive(data):
                    self._handle(event)
        except ProtocolError as error:
            self._end(error)
        except OSError as error:
            self._end(MachineLost(f"the machine went away: its agent's channel broke ({error})"))
        else:
            self._end(MachineLost("the machine went away: its agent closed the channel"))

    async def _write(self) -> None:
        try:
            while not self._ended.is_set():
                await self._wanted.wait()
                self._wanted = anyio.Event()
                while self._outgoing:
                    batch = b"".join(self._outgoing)
                    self._outgoing.clear()
                    await self._channel.send(batch)
                    self._sent += len(batch)
                    self._note_progress()
        except OSError as error:
            self._end(MachineLost(f"the machine went away: its agent's channel broke ({error})"))

    async def _tend(self) -> None:
        """Keep the guest's clock right, also after this host slept, and notice when nobody is there any more.

        Silence is counted in turns, not by the clock: after this process stood still the answer may wait to be read.
        """
        silence = 0.0
        await self._greeted.wait()
        while self._error is None:
            self.post(self.session.clock(time.time_ns()))
            if not self._tending:
                self._last_ping += 1
                self._tending = self._last_ping
                self._pings[self._tending] = anyio.Event()
                self.post(self.session.ping(self._tending))
            self._heard = False
            await anyio.sleep(TEND_INTERVAL)
            silence = 0.0 if self._heard else silence + TEND_INTERVAL
            if self._tending not in self._pings:
                self._tending = 0
            elif silence >= MOST_SILENCE:
                self._end(MachineLost(f"the guest has been silent for {MOST_SILENCE:g} s"))

    def post(self, data: bytes) -> None:
        """See `process.Link`."""
        if data and self._error is None:
            self._outgoing.append(data)
            self._posted += len(data)
            self._wanted.set()

    async def flushed(self) -> None:
        """See `process.Link`."""
        target = self._posted
        while self._sent < target and self._error is None:
            await self._progress.wait()

    def _note_progress(self) -> None:
        progress, self._progress = self._progress, anyio.Event()
        progress.set()

    def _handle(self, event: session.Event) -> None:
        if self._error is not None:
            return  # it was under way when the connection ended
        match event:
            case session.Pong(token):
                self._pings.pop(token).set()
            case Hello():
                self._hello = event
                self._greeted.set()
            case session.Exited() | session.Failed():
                self._streams.pop(event.stream).take(event)
            case _:
                self._streams[event.stream].take(event)

    def _end(self, error: MachineError) -> None:
        """The connection is over; the first reason stands."""
        if self._error is not None:
            return
        self._error = error
        self._outgoing.clear()
        for listener in self._streams.values():
            listener.lost(error)
        self._streams.clear()
        for answered in self._pings.values():
            answered.set()
        self._greeted.set()
        self._ended.set()
        self._wanted.set()
        self._note_progress()
