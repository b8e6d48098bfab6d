"""A disk without a container: byte for byte the file. What is never written stays a hole where the host has those."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from propolis.errors import DiskDamaged


class RawWriter:
    """Writes to an empty file; see `base.DiskWriter`. Not for use by several threads."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = os.lseek(descriptor, 0, os.SEEK_CUR)

    def write(self, offset: int, views: Sequence[memoryview]) -> None:
        """See `DiskWriter.write`."""
        if offset != self._position:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
        self._position = offset + write_views(self._descriptor, views)

    def finish(self, size: int, key: str) -> None:
        """See `DiskWriter.finish`."""
        del key  # nothing here has an identifier
        os.ftruncate(self._descriptor, size)


class RawReader:
    """Reads a part of a file; see `base.DiskReader`."""

    def __init__(self, path: Path, size: int | None = None) -> None:
        """Open it; the disk has `size` bytes from the file's start, or all of the file's."""
        self._path = path
        self._file = path.open("rb")
        self.size = os.fstat(self._file.fileno()).st_size if size is None else size

    def read(self, offset: int, length: int) -> bytes:
        """See `DiskReader.read`."""
        if not 0 <= offset <= self.size - length:
            raise DiskDamaged(
                f"the disk {self._path} is damaged",
                path=self._path,
                hint="remove it; if it is a cached one, it will be made again",
            )
        self._file.seek(offset)
        return self._file.read(length)

    def close(self) -> None:
        """See `DiskReader.close`."""
        self._file.close()


_MOST_VIEWS = 1000
"""Below IOV_MAX, which is 1024 on Linux and macOS."""

if sys.platform != "win32":

    def write_views(descriptor: int, views: Sequence[memoryview]) -> int:
        """Write all of `views` where the file stands; returns how many bytes."""
        total = 0
        for start in range(0, len(views), _MOST_VIEWS):
            total += _writev(descriptor, list(views[start : start + _MOST_VIEWS]))
        return total

    def _writev(descriptor: int, views: list[memoryview]) -> int:
        wanted = total = sum(map(len, views))
        while (written := os.writev(descriptor, views)) < wanted:
            wanted -= written
            done = 0
            while done < len(views) and written >= len(views[done]):
                written -= len(views[done])
                done += 1
            views = views[done:]
            if written:
                views[0] = views[0][written:]
        return total

else:

    def write_views(descriptor: int, views: Sequence[memoryview]) -> int:
        """Write all of `views` where the file stands; returns how many bytes."""
        data = memoryview(b"".join(views))
        left = data
        while left:
            left = left[os.write(descriptor, left) :]
        return len(data)
