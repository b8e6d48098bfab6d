"""A blob of which parts have come: what an interrupted pull leaves for the next one.

`<blobs>/<algorithm>/.partial-<hex>` holds the bytes, each at its place, and `.partial-<hex>.ranges` a line for each
range that is there; what has no line counts as missing. Locked by whoever adds to it, unlocked by its death. Nothing in
it counts before the whole has been verified, so it is not flushed. Knows nothing of where the bytes come from.
"""

import contextlib
import io
import os
import re
import secrets
import threading
import time
from pathlib import Path
from typing import Self

from propolis.host import system
from propolis.host.files import storage_errors
from propolis.image.ranges import Ranges

PREFIX = ".partial-"
_RANGES = ".ranges"
_PRIVATE = re.compile(re.escape(PREFIX) + r"[0-9a-f]+-[0-9a-f]{12}(\.ranges)?")
_LIFETIME = 14 * 24 * 3600
"""Seconds after which nobody is expected to come back for it."""
_MOST_RANGES = 1 << 20
"""Bytes of lines about ranges; more were not written by us."""


class PartialBlob:
    """An open, locked partial blob. Reading and writing is for any number of threads."""

    def __init__(self, target: Path, path: Path, descriptor: int) -> None:
        self._target = target
        self._path = path
        self._lines = path.with_name(path.name + _RANGES)
        self._descriptor = descriptor
        self._file = io.FileIO(descriptor, "r+b", closefd=False)
        self._lock = threading.Lock()
        self.ranges = self._noted(os.fstat(descriptor).st_size)
        """The bytes that were there when it was opened; whoever writes adds to it."""

    @classmethod
    def open(cls, target: Path) -> Self:
        """The one for the blob whose place is `target`; an empty one of our own while somebody else has that.

        Raises:
            StorageFull, DiskError: the directory cannot be written to.
        """
        path = target.with_name(f"{PREFIX}{target.name}")
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                try:
                    descriptor = system.open_file(path, create=not path.exists())
                except (FileExistsError, FileNotFoundError):
                    continue  # another one came or went in between
                if not system.lock_file(descriptor, wait=False):
                    path = target.with_name(f"{PREFIX}{target.name}-{secrets.token_hex(6)}")
                elif _is_there(path, descriptor):
                    return cls(target, path, descriptor)
                os.close(descriptor)  # in the second case somebody removed it before the lock was taken

    def read_into(self, position: int, buffer: memoryview) -> int:
        """Read from `position` on; returns how much.

        Raises:
            DiskError: the host does not let it be read.
        """
        with storage_errors(self._path), self._lock:
            self._file.seek(position)
            return self._file.readinto(buffer)

    def write(self, position: int, data: bytes | memoryview) -> None:
        """Put bytes at their place.

        Raises:
            StorageFull, DiskError: the host does not take them.
        """
        with storage_errors(self._path), self._lock:
            self._file.seek(position)
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]

    def note(self, start: int, end: int) -> None:
        """That range is there, and is to be found by the next one.

        Raises:
            StorageFull, DiskError: the host does not take the line.
        """
        if end > start:
            with storage_errors(self._lines), self._lines.open("ab", buffering=0) as file:
                file.write(f"{start} {end}\n".encode())

    def close(self) -> None:
        """Leave it to the next one; if nothing is there, or nobody would look for it, it is removed."""
        if self._descriptor < 0:
            return
        if self.ranges and not _PRIVATE.fullmatch(self._path.name):
            self._release()
        else:
            self.discard()

    def discard(self) -> None:
        """Remove it."""
        for path in (self._path, self._lines):
            with contextlib.suppress(OSError):
                path.unlink()
        self._release()

    def keep(self, size: int) -> None:
        """Its first `size` bytes are whole and verified: from now on the blob itself.

        More may have come for somebody who was told a wrong size. Not flushed, so whoever reads it verifies it again.

        Raises:
            StorageFull, DiskError: the host does not let it be renamed.
        """
        with contextlib.suppress(OSError):
            self._lines.unlink()
        descriptor, self._descriptor = self._descriptor, -1
        with storage_errors(self._target):
            os.ftruncate(descriptor, size)
            system.publish(descriptor, self._path, self._target)

    def _noted(self, size: int) -> Ranges:
        found = Ranges()
        try:
            with self._lines.open("rb") as file:
                lines = file.read(_MOST_RANGES)
        except OSError:
            return found
        for line in lines.splitlines(keepends=True):
            matched = re.fullmatch(rb"(\d{1,15}) (\d{1,15})\n", line)
            if matched:
                found.add(int(matched[1]), min(int(matched[2]), size))
        return found

    def _release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _is_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def remove(path: Path) -> bool:
    """Remove a partial blob, unless somebody adds to it; whether it went.

    Raises:
        OSError: the host does not let it be opened.
    """
    descriptor = system.open_file(path, create=False)
    try:
        is_free = system.lock_file(descriptor, wait=False)
        if is_free:
            for name in (path.with_name(path.name + _RANGES), path):
                name.unlink(missing_ok=True)
        return is_free
    finally:
        os.close(descriptor)


def sweep(directory: Path) -> int:
    """Remove partial blobs that nobody has added to for weeks, or that nobody will; returns how many files."""
    removed = 0
    for path in sorted(directory.glob(f"{PREFIX}*")):  # its bytes before its lines
        with contextlib.suppress(OSError):
            if path.suffix == _RANGES:
                if not path.with_suffix("").exists():
                    path.unlink()
                    removed += 1
            elif path.stat().st_mtime < time.time() - _LIFETIME or _PRIVATE.fullmatch(path.name):
                files = 2 if path.with_name(path.name + _RANGES).exists() else 1
                removed += files if remove(path) else 0  # somebody may have come back for it in this moment
    return removed
