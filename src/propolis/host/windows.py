"""The seam on Windows: byte-range locks far beyond any content, psutil for processes. Not yet run on Windows."""

import contextlib
import errno
import msvcrt
import os
import socket
import sys
import time
from pathlib import Path

import psutil

from propolis.errors import Unsupported

assert sys.platform == "win32"

_LOCK_OFFSET = 1 << 30
"""Windows locks are mandatory for the range they cover, so it lies where nothing is ever written."""
_LOCK_POLL = 0.05


def lock_file(descriptor: int, *, wait: bool) -> bool:
    """See `Host.lock_file`."""
    while True:
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, _LOCK_OFFSET, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EDEADLK):
                raise
        else:
            return True
        finally:
            os.lseek(descriptor, position, os.SEEK_SET)
        if not wait:
            return False
        time.sleep(_LOCK_POLL)


def publish(descriptor: int, path: Path, target: Path) -> None:
    """See `Host.publish`; an open file cannot be renamed here, so for an instant it is nobody's."""
    os.close(descriptor)
    path.replace(target)


def sync_directory(path: Path) -> None:
    """See `Host.sync_directory`; NTFS journals renames and directories cannot be opened for fsync."""


def process_start(pid: int) -> str | None:
    """See `Host.process_start`."""
    try:
        return repr(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def kill(pid: int) -> None:
    """See `Host.kill`."""
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).kill()


def kill_group(pid: int) -> None:
    """See `Host.kill_group`; there are no groups here."""
    kill(pid)


def memory_bytes() -> int:
    """See `Host.memory_bytes`."""
    return int(psutil.virtual_memory().total)


def boot_id() -> str:
    """See `Host.boot_id`."""
    return repr(psutil.boot_time())


def resident_bytes(pid: int) -> int:
    """See `Host.resident_bytes`."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def listen(path: Path) -> socket.socket:
    """See `Host.listen`; named pipes are what Windows has for it."""
    raise Unsupported(f"{path} cannot be listened at: Windows' named pipes are not used yet")


def connect(path: Path) -> socket.socket:
    """See `Host.connect`."""
    raise Unsupported(
        f"the machine behind {path.parent.name} cannot be reached: Windows' named pipes are not used yet",
        hint="use the machine in the process that started it",
    )


def fork() -> int:
    """See `Host.fork`."""
    raise Unsupported(
        "a machine cannot outlive the command that started it on Windows yet",
        hint="leave out -d, and keep the command running",
    )
