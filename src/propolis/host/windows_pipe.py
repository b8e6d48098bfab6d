"""The server of a named pipe whose client only ever sends: a machine's console.

The pipe is there when the constructor returns, so that whoever starts the machine afterwards loses nothing of it. One
client at a time; when it goes, the next may come (a machine that is reset opens its port again). Opened overlapped, as
the reads and writes of a synchronous pipe wait for each other.
"""

import sys

assert sys.platform == "win32"

import _winapi
import contextlib
import threading
from collections.abc import Callable, Sequence

from propolis.host.win32 import _ffi
from propolis.host.windows_security import SYSTEM, current_user_sid

_CHUNK = 1 << 16
_MOST_PIECES = 32
"""Read at most after the pipe was told to close, for a client that never stops."""
_FILE_FLAG_FIRST_PIPE_INSTANCE = 0x00080000
PIPE_REJECT_REMOTE_CLIENTS = 0x00000008
PIPE_TYPE_BYTE = 0
_ALL, _READ_AND_WRITE = "GA", "GRGW"


def descriptor(user: str, allow: Sequence[str]) -> str:
    """The pipe's security descriptor as SDDL: all rights for `user` and the system, use of it for those in `allow`."""
    everything = [(_ALL, SYSTEM), (_ALL, user), *((_READ_AND_WRITE, sid) for sid in allow)]
    return "D:P" + "".join(f"(A;;{rights};;;{sid})" for rights, sid in everything)


def finished(operation: _winapi.Overlapped, closing: int) -> bool:
    """Wait until the operation on a pipe has ended, or, by then cancelled, for the event `closing`: False."""
    # of several that have happened, the first in the list is told: what was sent before closing is read
    happened = _winapi.WaitForMultipleObjects([operation.event, closing], False, _winapi.INFINITE)
    if happened == _winapi.WAIT_OBJECT_0:
        return True
    operation.cancel()
    with contextlib.suppress(OSError):
        operation.GetOverlappedResult(True)
    return False


class PipeReader:
    r"""Serves `\\.\pipe\<name>`, and hands what comes to `take`, which is called from a thread and must not raise.

    Args:
        name: without the prefix.
        take: gets what a client sent, in pieces of up to 64 KiB.
        allow: SIDs of those who may connect, beside the current user and the system.

    Raises:
        OSError: it cannot be made, as when somebody else serves a pipe of that name.
    """

    def __init__(self, name: str, take: Callable[[bytes], None], *, allow: Sequence[str] = ()) -> None:
        self._take = take
        with _ffi.security_attributes(descriptor(current_user_sid(), allow)) as security:
            self._pipe = _winapi.CreateNamedPipe(
                rf"\\.\pipe\{name}",
                _winapi.PIPE_ACCESS_DUPLEX | _winapi.FILE_FLAG_OVERLAPPED | _FILE_FLAG_FIRST_PIPE_INSTANCE,
                PIPE_TYPE_BYTE | _winapi.PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS,
                1,
                _CHUNK,
                _CHUNK,
                0,
                security,
            )
        self._closing = _ffi.create_event()
        self._thread = threading.Thread(target=self._serve, name=f"propolis-pipe-{name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; what was sent before (2 MiB at most) was handed on when this returns. Idempotent, not from `take`."""
        if not self._closing:
            return
        _ffi.set_event(self._closing)
        self._thread.join()
        _winapi.CloseHandle(self._closing)
        self._closing = 0

    def _serve(self) -> None:
        try:
            while self._connected():
                left = _MOST_PIECES
                with contextlib.suppress(OSError):  # the client is gone, and all that it sent was read
                    while left and self._receive():
                        left -= self._is_closing()
                _ffi.disconnect_named_pipe(self._pipe)
                if self._is_closing():
                    return
        finally:
            _winapi.CloseHandle(self._pipe)

    def _is_closing(self) -> bool:
        return _winapi.WaitForSingleObject(self._closing, 0) == _winapi.WAIT_OBJECT_0

    def _connected(self) -> bool:
        """Wait for a client; False when the pipe is to be closed."""
        try:
            return finished(_winapi.ConnectNamedPipe(self._pipe, overlapped=True), self._closing)
        except OSError as error:
            if error.winerror != _winapi.ERROR_NO_DATA:  # it came, sent, and went again
                raise
            return True

    def _receive(self) -> bool:
        """Wait for the next piece and hand it on; False when the pipe is to be closed and no more was sent."""
        operation, _ = _winapi.ReadFile(self._pipe, _CHUNK, overlapped=True)
        if not finished(operation, self._closing):
            return False
        length, _ = operation.GetOverlappedResult(True)
        if length:
            self._take(bytes((operation.getbuffer() or b"")[:length]))
        return True
