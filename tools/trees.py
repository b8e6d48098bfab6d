"""Trees on this host, told so that two can be compared: everything that an image can say of a file."""

import errno
import hashlib
import os
import stat
import sys
from pathlib import Path

_BLOCK = 1 << 16


def walk(root: Path, *, leave_out: frozenset[str] = frozenset()) -> dict[str, tuple[object, ...]]:
    """Every path below `root` with all that can be told of it; hard links as the paths that share an inode."""
    seen: dict[str, tuple[object, ...]] = {}
    inodes: dict[tuple[int, int], list[str]] = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = f"{directory}/{name}"
            relative = os.path.relpath(path, root)
            if relative in leave_out:
                continue
            status = os.lstat(path)
            if not stat.S_ISDIR(status.st_mode):
                inodes.setdefault((status.st_dev, status.st_ino), []).append(relative)
            seen[relative] = (
                oct(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_mtime_ns,
                status.st_rdev,
                _content(path, status),
                {
                    key: os.getxattr(path, key, follow_symlinks=False)
                    for key in os.listxattr(path, follow_symlinks=False)
                },
            )
    for group in inodes.values():
        for path in group:
            seen[path] += (sorted(group),)
    return seen


def _content(path: str, status: os.stat_result) -> str | None:
    if stat.S_ISREG(status.st_mode):
        return _digest(path, status.st_size)
    return str(Path(path).readlink()) if stat.S_ISLNK(status.st_mode) else None


def _digest(path: str, size: int) -> str:
    """Of the size and of all blocks that are not zero; holes, whose like may be blocks elsewhere, are not read."""
    digest = hashlib.sha256(b"%d" % size)
    with Path(path).open("rb") as file:
        at = _data_from(file.fileno(), 0)
        while at < size:
            file.seek(at)
            block = file.read(_BLOCK)
            if block.strip(b"\0"):
                digest.update(b"%d:%d:" % (at, len(block)) + block)
                at += len(block)
            else:
                at = max(at + len(block), _data_from(file.fileno(), at + len(block)))
    return digest.hexdigest()


def _data_from(descriptor: int, position: int) -> int:
    """Where data begins at or behind `position`, to the block; far away if there is none."""
    try:
        return os.lseek(descriptor, position, os.SEEK_DATA) // _BLOCK * _BLOCK
    except OSError as error:
        if error.errno == errno.ENXIO:
            return sys.maxsize
        raise
