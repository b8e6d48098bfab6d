"""What Linux and macOS share: flock, directory fsync, process groups, named sockets."""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

assert sys.platform != "win32"

from propolis.channel import ByteChannel
from propolis.host.base import Listener

_LONGEST_NAME = 103
"""Bytes of a socket's path: Linux takes 107, macOS 103."""
_BACKLOG = 64


def open_file(path: Path, *, create: bool, mode: int = 0o644) -> int:
    """See `Host.open_file`; every file here can be renamed while it is open."""
    return os.open(path, os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT | os.O_EXCL if create else 0), mode)


def open_published(path: Path) -> int:
    """See `Host.open_published`; whoever replaces or removes it keeps nobody from reading."""
    return os.open(path, os.O_RDONLY)


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


def protect(path: Path) -> None:
    """See `Host.protect`."""
    path.chmod(0o444)


def remove_file(path: Path) -> None:
    """See `Host.remove_file`."""
    path.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """See `Host.remove_tree`."""
    shutil.rmtree(path, ignore_errors=True)


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


def listen(path: Path) -> Listener:
    """See `Host.listen`."""
    from propolis.host.sockets import SocketListener  # noqa: PLC0415 - few commands need it

    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as name:
            listener.bind(name)
        path.chmod(0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return SocketListener(listener)


def connect(path: Path) -> ByteChannel:
    """See `Host.connect`."""
    from propolis.host.sockets import channel  # noqa: PLC0415 - few commands need it

    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as name:
            connection.connect(name)
    except BaseException:
        connection.close()
        raise
    return channel(connection)


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of that path that fits into a socket's address; for a long one by a link that is gone afterwards."""
    if len(os.fsencode(path)) <= _LONGEST_NAME:
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="propolis-", dir="/tmp") as directory:
        link = Path(directory, "d")
        link.symlink_to(path.parent)
        yield str(link / path.name)
