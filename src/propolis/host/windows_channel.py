r"""Connections between processes of one user on Windows: named pipes, each end of which is a `ByteChannel`.

The pipe's name cannot be guessed, and stands in the file that others know; only the user and the system may open it.
Each call waits in a thread, as no event loop but asyncio's drives a pipe. A call that is given up goes on there: what
it has read is the next one's, what it was to write is written before what comes later.
"""

import sys

assert sys.platform == "win32"

import _winapi
import contextlib
import re
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from propolis.channel import ByteChannel
from propolis.host.files import write_atomically
from propolis.host.win32 import _ffi
from propolis.host.windows_pipe import PIPE_REJECT_REMOTE_CLIENTS, PIPE_TYPE_BYTE, descriptor, finished
from propolis.host.windows_security import current_user_sid

_T = TypeVar("_T")
_CHUNK = 1 << 16
_NAME = re.compile(r"propolis-[0-9a-f]{32}")
_BUSY_TIMEOUT = 5000
"""Milliseconds for the server to have room for one more."""
_FILE_FLAG_FIRST_PIPE_INSTANCE = 0x00080000
_SECURITY_IDENTIFICATION = 0x00110000
"""The server may ask who we are, not act as us."""


class PipeListener:
    """See `host.base.Listener`; its name lies in the file `path`."""

    def __init__(self, path: Path) -> None:
        """Listen.

        Raises:
            OSError: the pipe cannot be made.
            StorageFull, DiskError: the file cannot be written.
        """
        self._name = _unguessable()
        self._pipe = _instance(self._name, _FILE_FLAG_FIRST_PIPE_INSTANCE, _winapi.PIPE_UNLIMITED_INSTANCES)
        self._closing = _ffi.create_event()
        self._turn = threading.Lock()
        self._is_closed = False
        try:
            write_atomically(path, self._name.encode(), mode=0o600, durable=False)
        except BaseException:
            self.close()
            raise

    async def accept(self) -> ByteChannel:
        """See `Listener.accept`."""
        return PipeChannel(await _in_thread(self._accept))

    def close(self) -> None:
        """See `Listener.close`."""
        if self._is_closed:
            return
        self._is_closed = True
        _ffi.set_event(self._closing)
        with self._turn:  # whoever waits for a client leaves
            _winapi.CloseHandle(self._pipe)
            _winapi.CloseHandle(self._closing)

    def _accept(self) -> int:
        """The pipe of the next client."""
        with self._turn:
            while not self._is_closed:
                try:
                    if not finished(_winapi.ConnectNamedPipe(self._pipe, overlapped=True), self._closing):
                        break
                except OSError as error:
                    if error.winerror != _winapi.ERROR_NO_DATA:
                        raise
                    _ffi.disconnect_named_pipe(self._pipe)  # it came and went again
                    continue
                following = _instance(self._name, 0, _winapi.PIPE_UNLIMITED_INSTANCES)
                connected, self._pipe = self._pipe, following
                return connected
        raise BrokenPipeError("nobody listens any more")


class PipeChannel:
    """See `propolis.channel.ByteChannel`: one end of a connected pipe, which it owns."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._closing = _ffi.create_event()
        self._is_closed = False
        self._reading, self._writing = threading.Lock(), threading.Lock()
        self._held = b""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """See `ByteChannel.receive`."""
        await _in_thread(self._fill)
        with self._reading:
            piece, self._held = self._held[:max_bytes], self._held[max_bytes:]
        return piece

    async def send(self, data: bytes | memoryview) -> None:
        """See `ByteChannel.send`."""
        whole = bytes(data)
        await _in_thread(lambda: self._write(whole))

    async def aclose(self) -> None:
        """See `ByteChannel.aclose`."""
        if not self._is_closed:
            self._is_closed = True
            _ffi.set_event(self._closing)
            with anyio.CancelScope(shield=True):
                await _in_thread(self._let_go)

    def close(self) -> None:
        """The same, for who has no event loop."""
        if not self._is_closed:
            self._is_closed = True
            _ffi.set_event(self._closing)
            self._let_go()

    def _fill(self) -> None:
        """Wait until something is held, or nothing more will come."""
        with self._reading:
            if self._held or self._is_closed:
                return
            with contextlib.suppress(OSError):
                operation, _ = _winapi.ReadFile(self._pipe, _CHUNK, overlapped=True)
                if finished(operation, self._closing):
                    length, _ = operation.GetOverlappedResult(True)
                    self._held = bytes((operation.getbuffer() or b"")[:length])

    def _write(self, data: bytes) -> None:
        with self._writing:
            try:
                for start in range(0, len(data), _CHUNK):
                    if self._is_closed:
                        raise BrokenPipeError("the connection was closed")
                    operation, _ = _winapi.WriteFile(self._pipe, data[start : start + _CHUNK], overlapped=True)
                    if not finished(operation, self._closing):
                        raise BrokenPipeError("the connection was closed")
                    operation.GetOverlappedResult(True)
            except OSError as error:
                raise BrokenPipeError("the other side of the connection is gone") from error

    def _let_go(self) -> None:
        with self._reading, self._writing:
            _winapi.CloseHandle(self._pipe)
            _winapi.CloseHandle(self._closing)


def pair() -> tuple[PipeChannel, int]:
    """Both ends of a connection that nobody else can have: ours, and the handle that another process gets.

    Raises:
        OSError: it cannot be made.
    """
    name = _unguessable()
    ours = _instance(name, _FILE_FLAG_FIRST_PIPE_INSTANCE, 1)
    try:
        theirs = _client(name)
    except BaseException:
        _winapi.CloseHandle(ours)
        raise
    _winapi.ConnectNamedPipe(ours, overlapped=True).GetOverlappedResult(True)  # as it is connected, this tells so
    return PipeChannel(ours), theirs


def connect(path: Path) -> ByteChannel:
    """Connect to the listener whose name lies in `path`.

    Raises:
        OSError: nobody listens there.
    """
    with path.open("rb") as file:
        name = file.read(100).decode(errors="replace")
    if not _NAME.fullmatch(name):
        raise FileNotFoundError(f"{path} names no pipe")
    while True:
        try:
            return PipeChannel(_client(name))
        except OSError as error:
            if error.winerror != _winapi.ERROR_PIPE_BUSY:
                raise
        _winapi.WaitNamedPipe(_place(name), _BUSY_TIMEOUT)


def _unguessable() -> str:
    return f"propolis-{secrets.token_hex(16)}"


def _place(name: str) -> str:
    return rf"\\.\pipe\{name}"


def _instance(name: str, flags: int, most: int) -> int:
    """A server's end, one of at most so many."""
    with _ffi.security_attributes(descriptor(current_user_sid(), ())) as security:
        return _winapi.CreateNamedPipe(
            _place(name),
            _winapi.PIPE_ACCESS_DUPLEX | _winapi.FILE_FLAG_OVERLAPPED | flags,
            PIPE_TYPE_BYTE | _winapi.PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS,
            most,
            _CHUNK,
            _CHUNK,
            0,
            security,
        )


def _client(name: str) -> int:
    access = _winapi.GENERIC_READ | _winapi.GENERIC_WRITE
    flags = _winapi.FILE_FLAG_OVERLAPPED | _SECURITY_IDENTIFICATION
    return _winapi.CreateFile(_place(name), access, 0, 0, _winapi.OPEN_EXISTING, flags, 0)


async def _in_thread(call: Callable[[], _T]) -> _T:
    """Run `call` in a thread of its own; given up, it goes on there."""
    return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))
