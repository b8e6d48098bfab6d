"""The workload's output for all who are attached to it, and for the log; their input for the workload.

The output goes as fast as the fastest of them takes it, so that nothing is lost to somebody who is alone. Whoever falls
too far behind the others is told so and let go. With nobody attached it goes into the log alone.
"""

import contextlib
from collections import deque
from collections.abc import Iterator, Mapping

import anyio

from propolis.agent.process import ExitStatus, GuestProcess, OutputStream, Waiters
from propolis.agent.relay import Program, Served
from propolis.agent.wire import Source

KEPT_LOG = 1 << 20
_READ_AHEAD = 256 << 10
"""Bytes that wait for one who is attached before the workload does."""
_MOST_BEHIND = 4 << 20
"""Bytes that wait for one while another takes more."""
_TOO_SLOW = b"propolis: this terminal took the output too slowly and was let go; the machine goes on\r\n"
_TOO_SLOW_STATUS = ExitStatus(125)


class Log:
    """The last bytes of what a workload printed."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def append(self, data: bytes) -> None:
        """Add `data`; at least the last `KEPT_LOG` bytes stay."""
        self._kept += data
        if len(self._kept) > 2 * KEPT_LOG:
            del self._kept[:-KEPT_LOG]

    def content(self, lines: int | None = None) -> bytes:
        """The end of it, at most `KEPT_LOG` bytes; only the last `lines`, if a number is given."""
        kept = bytes(self._kept[-KEPT_LOG:])
        if lines is None:
            return kept
        position = len(kept) - kept.endswith(b"\n")
        for _ in range(lines):
            position = kept.rfind(b"\n", 0, position)
            if position < 0:
                return kept
        return kept[position + 1 :] if lines else b""


class _Listener:
    """One who is attached: what waits for them, in order."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[bytes, Source]] = deque()
        self._size = 0
        self._ended = False
        self._changed = Waiters()
        self.too_slow = False

    @property
    def takes_more(self) -> bool:
        return self._size < _READ_AHEAD

    def offer(self, data: bytes, source: Source) -> None:
        self._pieces.append((data, source))
        self._size += len(data)
        if self._size > _MOST_BEHIND:
            self.too_slow = True
            self._pieces.clear()
            self.end()
        self._changed.wake()

    def end(self) -> None:
        self._ended = True
        self._changed.wake()

    async def next(self) -> tuple[bytes, Source] | None:
        while not self._pieces and not self._ended:
            await self._changed.wait()
        if not self._pieces:
            return None
        data, source = self._pieces.popleft()
        self._size -= len(data)
        return data, source


class Broadcast:
    """A machine's workload for many. `run` carries its streams; the programs serve clients of the owner."""

    def __init__(self, process: GuestProcess, *, awaited: bool = False) -> None:
        """Carry the streams of `process`; with `awaited`, hold its output until the first has attached."""
        self.log = Log()
        self._process = process
        self._awaited = awaited
        self._listeners: set[_Listener] = set()
        self._typing = anyio.Lock()
        self._changed = Waiters()
        self._status: ExitStatus | None = None
        self._ended = anyio.Event()

    async def run(self) -> ExitStatus:
        """Carry the output until the process has ended and all of it is with the listeners.

        Raises:
            MachineLost: the machine went away.
            ProtocolError: the guest broke the protocol.
        """
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._carry, self._process.stdout, Source.STDOUT)
                tasks.start_soon(self._carry, self._process.stderr, Source.STDERR)
            self._status = await self._process.wait()
            return self._status
        finally:
            self._ended.set()
            for listener in self._listeners:
                listener.end()

    @property
    def has_ended(self) -> bool:
        """Whether the workload has."""
        return self._ended.is_set()

    def let_go(self) -> None:
        """Wait for nobody to attach any more."""
        self._awaited = False
        self._changed.wake()

    async def heard(self) -> None:
        """Wait until all who are attached have taken what there was for them; bound the wait yourself."""
        while self._listeners:
            await self._changed.wait()

    def programs(self) -> Mapping[str, Program]:
        """What clients of the owner can call."""
        return {"host.attach": self._attach, "host.logs": self._logs, "host.wait": self._wait}

    async def _carry(self, stream: OutputStream, source: Source) -> None:
        while True:
            while not self._wanted():
                await self._changed.wait()
            data = await stream.receive()
            if not data:
                return
            self.log.append(data)
            for listener in self._listeners:
                listener.offer(data, source)
            self._listeners = {listener for listener in self._listeners if not listener.too_slow}

    def _wanted(self) -> bool:
        """Whether somebody has room for more, or nobody is there to wait for."""
        if not self._listeners:
            return not self._awaited
        return any(listener.takes_more for listener in self._listeners)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[_Listener]:
        listener = _Listener()
        if self._ended.is_set():
            listener.end()
        self._listeners.add(listener)
        self.let_go()
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            self._changed.wake()

    async def _deliver(self, listener: _Listener, served: Served) -> ExitStatus:
        while (piece := await listener.next()) is not None:
            await served.write(*piece)
            self._changed.wake()
        if listener.too_slow:
            await served.write(_TOO_SLOW, Source.STDERR)
            return _TOO_SLOW_STATUS
        await self._ended.wait()
        return self._status or ExitStatus(0, 9)

    async def _attach(self, served: Served) -> ExitStatus:
        """`host.attach [eof]`: as if the client had started the workload; `eof` passes on the end of its input."""
        served.signalled, served.resized = self._process.signal, self._process.resize
        with self._listening() as listener:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._type, served, "eof" in served.argv)
                status = await self._deliver(listener, served)
                tasks.cancel_scope.cancel()
        return status

    async def _logs(self, served: Served) -> ExitStatus:
        """`host.logs [follow] [tail=N]`: what is kept of the output, or its last lines; then, perhaps, what comes."""
        wanted = [word.removeprefix("tail=") for word in served.argv if word.startswith("tail=")]
        lines = int(wanted[0]) if wanted and wanted[0].isdecimal() else None
        if "follow" not in served.argv:
            await served.write(self.log.content(lines))
            return ExitStatus(0)
        with self._listening() as listener:
            await served.write(self.log.content(lines))
            await self._deliver(listener, served)
        return ExitStatus(0)

    async def _wait(self, _served: Served) -> ExitStatus:
        """`host.wait`: end as the workload does."""
        await self._ended.wait()
        return self._status or ExitStatus(0, 9)

    async def _type(self, served: Served, eof: bool) -> None:
        with contextlib.suppress(BrokenPipeError):  # the workload takes no more; that is its right
            while data := await served.read():
                async with self._typing:
                    await self._process.stdin.send(data)
        if eof:
            await self._process.stdin.aclose()
