"""What Linux and macOS share: flock, directory fsync, process groups."""

import contextlib
import fcntl
import os
import signal
import sys
from pathlib import Path

assert sys.platform != "win32"


def lock_file(descriptor: int, *, wait: bool) -> bool:
    """See `Host.lock_file`; flock(2), which belongs to the open file and not to the process."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def publish(descriptor: int, path: Path, target: Path) -> None:
    """See `Host.publish`."""
    try:
        path.replace(target)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """See `Host.sync_directory`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def kill(pid: int) -> None:
    """See `Host.kill`."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def memory_bytes() -> int:
    """See `Host.memory_bytes`."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def kill_group(pid: int) -> None:
    """See `Host.kill_group`."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
