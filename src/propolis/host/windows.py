"""The seam on Windows: locks beyond any content, files that can be renamed while they are open, Win32 for processes."""

import sys

assert sys.platform == "win32"

import contextlib
import msvcrt
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from propolis.channel import ByteChannel
from propolis.host.base import Listener
from propolis.host.win32 import _ffi

_LOCK_OFFSET = 1 << 62
"""Windows locks are mandatory for the range they cover, so it lies where nothing is ever written."""
_LOCK_POLL = 0.02
_PATIENCE = 5.0
"""Seconds for whoever has a file open that is to be replaced or removed: a scanner, a machine that just ended."""
_LONGEST_PAUSE = 0.25
_IN_USE = (_ffi.ERROR_ACCESS_DENIED, _ffi.ERROR_SHARING_VIOLATION, _ffi.ERROR_LOCK_VIOLATION)
_SHARED = _ffi.FILE_SHARE_READ | _ffi.FILE_SHARE_WRITE | _ffi.FILE_SHARE_DELETE

_T = TypeVar("_T")


def open_file(path: Path, *, create: bool, mode: int = 0o644) -> int:
    """See `Host.open_file`; `mode` means nothing here, files have the rights of their directory."""
    disposition = _ffi.CREATE_NEW if create else _ffi.OPEN_EXISTING
    handle = _ffi.create_file(str(path), _ffi.GENERIC_READ | _ffi.GENERIC_WRITE, _SHARED, disposition)
    return _descriptor(handle, os.O_RDWR)


def open_published(path: Path) -> int:
    """See `Host.open_published`: until it has its new name, its writer alone may open it; until it is gone, nobody."""
    handle = _patiently(lambda: _ffi.create_file(str(path), _ffi.GENERIC_READ, _SHARED, _ffi.OPEN_EXISTING))
    return _descriptor(handle, os.O_RDONLY)


def _descriptor(handle: int, flags: int) -> int:
    try:
        return msvcrt.open_osfhandle(handle, flags | os.O_BINARY | os.O_NOINHERIT)
    except BaseException:
        _ffi.close_handle(handle)
        raise


def lock_file(descriptor: int, *, wait: bool) -> bool:
    """See `Host.lock_file`."""
    flags = _ffi.LOCKFILE_EXCLUSIVE_LOCK | _ffi.LOCKFILE_FAIL_IMMEDIATELY
    while True:
        try:
            _ffi.lock_file(msvcrt.get_osfhandle(descriptor), flags, _LOCK_OFFSET)
        except OSError as error:
            if error.winerror != _ffi.ERROR_LOCK_VIOLATION:
                raise
        else:
            return True
        if not wait:
            return False
        time.sleep(_LOCK_POLL)  # waiting in the kernel, Ctrl-C would not be heard


def publish(descriptor: int, path: Path, target: Path) -> None:
    """See `Host.publish`; needs a descriptor of `open_file`. Waits a little for whoever has `target` open."""
    try:
        _patiently(lambda: path.replace(target))
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """See `Host.sync_directory`; NTFS journals renames and directories cannot be opened for fsync."""


def protect(path: Path) -> None:
    """See `Host.protect`; a file that is marked as read-only can be neither removed nor replaced here."""


def remove_file(path: Path) -> None:
    """See `Host.remove_file`."""
    _patiently(lambda: path.unlink(missing_ok=True))


def remove_tree(path: Path) -> None:
    """See `Host.remove_tree`; waits a little for whoever has a file of it open."""

    def remove() -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)

    with contextlib.suppress(OSError):
        _patiently(remove)


def _patiently(act: Callable[[], _T]) -> _T:
    until, pause = time.monotonic() + _PATIENCE, 0.01
    while True:
        try:
            return act()
        except OSError as error:
            if error.winerror not in _IN_USE or time.monotonic() >= until:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def process_start(pid: int) -> str | None:
    """See `Host.process_start`. A process that we may not even ask is none of ours, so it counts as gone."""
    try:
        with _ffi.process(pid, _ffi.PROCESS_QUERY_LIMITED_INFORMATION | _ffi.SYNCHRONIZE) as process:
            return None if _ffi.has_ended(process) else str(_ffi.creation_time(process))
    except OSError:
        return None


def kill(pid: int) -> None:
    """See `Host.kill`."""
    with contextlib.suppress(OSError), _ffi.process(pid, _ffi.PROCESS_TERMINATE) as process:
        _ffi.terminate_process(process, 1)


def kill_group(pid: int) -> None:
    """See `Host.kill_group`; there are no groups here."""
    kill(pid)


def memory_bytes() -> int:
    """See `Host.memory_bytes`."""
    return _ffi.total_physical_memory()


def boot_id() -> str:
    """See `Host.boot_id`; the moment of booting, which setting the clock does not change."""
    return str(_ffi.boot_time())


def build_number() -> int:
    """This Windows' build: what it really is, whatever this program's manifest says that it was written for."""
    return _ffi.build_number()


def resident_bytes(pid: int) -> int:
    """See `Host.resident_bytes`."""
    try:
        with _ffi.process(pid, _ffi.PROCESS_QUERY_LIMITED_INFORMATION) as process:
            return _ffi.working_set_size(process)
    except OSError:
        return 0


def listen(path: Path) -> Listener:
    """See `Host.listen`; `path` becomes a file with the name of a pipe."""
    from propolis.host.windows_channel import PipeListener  # noqa: PLC0415 - few commands need it

    return PipeListener(path)


def connect(path: Path) -> ByteChannel:
    """See `Host.connect`."""
    from propolis.host import windows_channel  # noqa: PLC0415 - few commands need it

    return windows_channel.connect(path)
