"""A guest agent in memory: speaks the protocol of `propolis.agent.wire` like the C program, and is as strict.

Its programs are async Python functions. It checks what the host may send (credit, order) and asserts on violations, so
that a test of the host side fails at the guest, as in life.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
from anyio.abc import TaskGroup

from propolis.agent import wire
from propolis.agent.wire import Failure, Flag, FrameType, Source
from propolis.channel import ByteChannel

STAMPS = {"init": 1, "disks": 2, "root": 3, "ready": 4}


class FakeProcess:
    """What a program of the fake guest sees of itself."""

    def __init__(self, guest: "FakeGuest", stream: int, document: Mapping[str, Any]) -> None:
        self._guest, self._stream = guest, stream
        self.document = document
        self.signals: list[int] = []
        self.sizes: list[tuple[int, int]] = []
        self._credit = {Source.STDOUT: document["credit"], Source.STDERR: document["credit"]}
        self._granted = wire.STDIN_WINDOW
        self._input = bytearray()
        self._input_ended = False
        self._changed = anyio.Event()

    async def write(self, data: bytes, source: Source = Source.STDOUT) -> None:
        """Write all of `data` as credit comes."""
        rest = memoryview(data)
        while rest:
            piece = rest[: min(self._credit[source], wire.MAX_PAYLOAD)]
            if not piece:
                await self.changed()
                continue
            self._credit[source] -= len(piece)
            await self._guest.send(FrameType[source.name], self._stream, bytes(piece))
            rest = rest[len(piece) :]

    async def read(self) -> bytes:
        """Return the next bytes of standard input, `b""` at its end; gives the credit back."""
        while not self._input and not self._input_ended:
            await self.changed()
        data, self._input = bytes(self._input), bytearray()
        if data and not self._input_ended:
            self._granted += len(data)
            await self._guest.send(FrameType.CREDIT, self._stream, wire.U32.pack(len(data)))
        return data

    async def changed(self) -> None:
        """Wait until anything came from the host."""
        await self._changed.wait()

    def take(self, kind: FrameType, payload: bytes) -> None:
        """Take one frame from the host."""
        if kind is FrameType.STDIN:
            assert 0 < len(payload) <= self._granted, "input beyond its credit"
            assert not self._input_ended, "input after its end"
            self._granted -= len(payload)
            self._input += payload
        elif kind is FrameType.STDIN_EOF:
            self._input_ended = True
        elif kind is FrameType.GRANT:
            source, amount = wire.U32_PAIR.unpack(payload)
            self._credit[Source(source)] += amount
            assert self._credit[Source(source)] <= wire.MAX_CREDIT, "a grant out of bounds"
        elif kind is FrameType.SIGNAL:
            self.signals.append(wire.U32_PAIR.unpack(payload)[0])
        else:
            assert kind is FrameType.RESIZE, f"{kind.name} on a stream"
            self.sizes.append(wire.U16_PAIR.unpack(payload))
        event, self._changed = self._changed, anyio.Event()
        event.set()


Program = Callable[[FakeProcess], Awaitable[int]]
"""Returns its exit code; a negative one is the signal that killed it."""


class FakeGuest:
    """A guest with the given programs, by the first word of the command. START runs the one called `init`."""

    def __init__(self, channel: ByteChannel, programs: Mapping[str, Program]) -> None:
        self._channel, self._programs = channel, programs
        self._sending = anyio.Lock()
        self._document = bytearray()
        self.processes: dict[int, FakeProcess] = {}

    async def serve(self) -> None:
        """Greet and serve until SHUTDOWN or the end of the channel."""
        stamps: dict[str, Any] = {
            "generation": wire.GENERATION,
            "release": "0.0-fake",
            "machine": "x86_64",
            "stamps": STAMPS,
        }
        await self.send(FrameType.HELLO, 0, json.dumps(stamps).encode())
        async with anyio.create_task_group() as tasks:
            buffer = bytearray()
            while data := await self._channel.receive():
                buffer += data
                while len(buffer) >= wire.HEADER.size:
                    length, number, flags, zero, stream = wire.HEADER.unpack_from(buffer)
                    assert length <= wire.MAX_PAYLOAD, "a frame that is too long"
                    assert zero == 0, "a header with something in its zeros"
                    if len(buffer) < wire.HEADER.size + length:
                        break
                    payload = bytes(buffer[wire.HEADER.size : wire.HEADER.size + length])
                    del buffer[: wire.HEADER.size + length]
                    await self._take(FrameType(number), flags, stream, payload, tasks)
                    if number == FrameType.SHUTDOWN:
                        tasks.cancel_scope.cancel()
                        await self._channel.aclose()
                        return
            tasks.cancel_scope.cancel()

    async def _take(self, kind: FrameType, flags: int, stream: int, payload: bytes, tasks: TaskGroup) -> None:
        if kind is FrameType.PING:
            await self.send(FrameType.PONG, 0, payload)
        elif kind in (FrameType.EXEC, FrameType.START):
            self._document += payload
            if not flags & Flag.MORE:
                document, self._document = json.loads(self._document), bytearray()
                await self._launch(kind, stream, document, tasks)
        elif kind is not FrameType.SHUTDOWN and stream in self.processes:
            self.processes[stream].take(kind, payload)

    async def _launch(self, kind: FrameType, stream: int, document: dict[str, Any], tasks: TaskGroup) -> None:
        assert stream not in self.processes, "a stream that is in use"
        name = "init" if kind is FrameType.START else document["cmd"][0]
        program = self._programs.get(name)
        if program is None:
            await self.send(FrameType.FAILED, stream, wire.U32.pack(Failure.NOT_FOUND) + f"{name}: not found".encode())
            return
        self.processes[stream] = FakeProcess(self, stream, document)
        await self.send(FrameType.STARTED, stream, wire.U32.pack(1000 + stream))
        await self.send(FrameType.CREDIT, stream, wire.U32.pack(wire.STDIN_WINDOW))
        tasks.start_soon(self._run, program, stream)

    async def _run(self, program: Program, stream: int) -> None:
        code = await program(self.processes[stream])
        del self.processes[stream]
        await self.send(FrameType.EXIT, stream, wire.U32_PAIR.pack(max(code, 0), max(-code, 0)))

    async def send(self, kind: FrameType, stream: int, payload: bytes = b"") -> None:
        """Send one frame, whatever it says."""
        async with self._sending:
            await self._channel.send(wire.pack(kind, stream, payload))
