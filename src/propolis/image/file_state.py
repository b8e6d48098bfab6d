"""What tells one state of a file from another without reading it, so that something can be remembered of it.

Device, inode, size and both times, as git has it in its index: a change shows in them, unless it is made within the
same tick as the one before. So nothing is remembered of a file that was changed a moment before it was read.
"""

import os
from pathlib import Path

from propolis.errors import ImageError
from propolis.image import digest as digests

FileState = dict[str, int]
_SETTLED = 2_000_000_000
"""Nanoseconds after which a change of a file is seen in its times, whatever file system it is on."""


def state_of(path: Path) -> FileState:
    """The state that the file is in.

    Raises:
        ImageError: it is not there, or the host does not tell.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error
    return {
        "device": status.st_dev,
        "inode": status.st_ino,
        "size": status.st_size,
        "mtime": status.st_mtime_ns,
        "ctime": status.st_ctime_ns,
    }


def is_settled(state: FileState, began: int) -> bool:
    """Whether a file in that state, read from `began` on (nanoseconds since the epoch), would show a later change."""
    return max(state["mtime"], state["ctime"]) < began - _SETTLED


def record_name(path: Path) -> str:
    """How a record of the file at `path` is called: by its place, so that one that is replaced has no second one."""
    return f"{digests.of(os.fsencode(os.path.realpath(path))).partition(':')[2]}.json"
