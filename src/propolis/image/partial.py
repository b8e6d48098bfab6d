"""A blob of which a part has come: what an interrupted pull leaves for the next one.

`<blobs>/<algorithm>/.partial-<hex>`, locked by whoever adds to it, unlocked by its death. Nothing in it counts before
the whole has been verified, so it is not flushed. Knows nothing of where the bytes come from.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Self

from propolis.host import system
from propolis.host.files import storage_errors

_PREFIX = ".partial-"
_LIFETIME = 14 * 24 * 3600
"""Seconds after which nobody is expected to come back for it."""


class PartialBlob:
    """An open, locked partial blob."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        """Bytes that are there."""

    @classmethod
    def open(cls, target: Path) -> Self | None:
        """The one for the blob whose place is `target`; None while somebody else has it.

        Raises:
            StorageFull, DiskError: the directory cannot be written to.
        """
        path = target.with_name(f"{_PREFIX}{target.name}")
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                try:
                    descriptor = system.open_file(path, create=not path.exists())
                except (FileExistsError, FileNotFoundError):
                    continue  # another one came or went in between
                if not system.lock_file(descriptor, wait=False):
                    os.close(descriptor)
                    return None
                if _is_there(path, descriptor):
                    return cls(path, descriptor)
                os.close(descriptor)  # somebody removed it before the lock was taken

    def read_into(self, position: int, buffer: memoryview) -> int:
        """Read from `position` on; returns how much.

        Raises:
            DiskError: the host does not let it be read.
        """
        with storage_errors(self._path):
            os.lseek(self._descriptor, position, os.SEEK_SET)
            data = os.read(self._descriptor, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def append(self, data: bytes) -> None:
        """Add bytes at the end.

        Raises:
            StorageFull, DiskError: the host does not take them.
        """
        with storage_errors(self._path):
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
            view = memoryview(data)
            while view:
                count = os.write(self._descriptor, view)
                view = view[count:]
                self.size += count

    def close(self) -> None:
        """Leave it to the next one; an empty one is removed."""
        if self.size:
            self._release()
        else:
            self.discard()

    def discard(self) -> None:
        """Remove it."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._release()

    def _release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _is_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def sweep(directory: Path) -> int:
    """Remove partial blobs that nobody has added to for weeks; returns how many."""
    removed = 0
    for path in directory.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - _LIFETIME:
                path.unlink()
                removed += 1
    return removed
