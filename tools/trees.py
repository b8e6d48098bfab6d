"""Trees on this host, told so that two can be compared: everything that an image can say of a file."""

import hashlib
import os
import stat
from pathlib import Path


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
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return str(Path(path).readlink()) if stat.S_ISLNK(status.st_mode) else None
