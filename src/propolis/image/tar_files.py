"""Files by name inside a tar: in place where it is an uncompressed file, else in an uncompressed copy in the cache.

Knows nothing of images. The tar is walked once, its contents skipped, and then read in place.
"""

import io
import os
import posixpath
from pathlib import Path
from typing import BinaryIO, cast

from propolis.errors import ImageInvalid, ImageNotFound
from propolis.image import tar
from propolis.image.compression import MAGIC_LENGTH, Compression, sniff
from propolis.image.files import open_regular
from propolis.image.spool import STANDARD_INPUT, Spooled, shown, spooled
from propolis.progress import Reporter

_MAX_MEMBERS = 100_000
_MAX_LINKS = 8
_SMALL_READ = 4096
"""What is read for a header while walking; contents are skipped by seeking."""


class TarFiles:
    """Files inside an uncompressed tar. With `copy`, they are read from there, and `path` is what messages name.

    Raises:
        ImageNotFound: there is no file at `path`.
        ImageInvalid: it is no tar, or is broken.
    """

    def __init__(self, path: Path | str, copy: Spooled | None = None) -> None:
        self._where = str(path)
        self._copy = copy
        self._path = copy.path if copy else Path(path)
        self._extents: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        file, self._size = open_regular(self._path, self._where)
        with file:
            self._walk(file)

    @property
    def where(self) -> str:
        """See `Files.where`."""
        return self._where

    def __contains__(self, name: str) -> bool:
        return self._resolve(name) in self._extents

    def open(self, name: str) -> tuple[BinaryIO, int]:
        """See `Files.open`."""
        extent = self._extents.get(self._resolve(name))
        if extent is None:
            raise ImageNotFound(
                f"there is no {name[:200]} in {self.where}", hint="the image is incomplete; get another copy"
            )
        file, _ = open_regular(self._path, self.where)
        return cast(BinaryIO, _Section(file, *extent)), extent[1]

    def close(self) -> None:
        """See `Files.close`."""
        if self._copy:
            self._copy.close()

    def _resolve(self, name: str) -> str:
        """Follow links; docker shares layers of old archives by them."""
        for _ in range(_MAX_LINKS):
            if name not in self._links:
                break
            name = self._links[name]
        return name

    def _walk(self, file: BinaryIO) -> None:
        buffer = memoryview(bytearray(_SMALL_READ))

        def skip(length: int) -> None:
            file.seek(length, os.SEEK_CUR)

        def read() -> memoryview:
            return buffer[: file.readinto(buffer)]  # type: ignore[attr-defined]

        reader = tar.TarReader(read, self.where, seek=skip)
        count = 0
        while (member := reader.next()) is not None:
            count += 1
            if count > _MAX_MEMBERS:
                raise ImageInvalid(
                    f"{self.where} has more than {_MAX_MEMBERS} members, so it is not an image's archive"
                )
            name = posixpath.normpath(member.name.decode("utf-8", "surrogateescape")).lstrip("/")
            link = member.link.decode("utf-8", "surrogateescape")
            self._extents.pop(name, None)
            self._links.pop(name, None)
            if member.typeflag in tar.REGULAR and member.extents is None:
                if reader.offset + member.size > self._size:
                    raise ImageInvalid(f"{self.where} is truncated: it ends in {name[:200]!r}", hint="get another copy")
                self._extents[name] = (reader.offset, member.size)
            elif member.typeflag == tar.SYMLINK:
                self._links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), link))
            elif member.typeflag == tar.HARDLINK:
                self._links[name] = posixpath.normpath(link)


def open_archive(path: Path, directory: Path, reporter: Reporter | None = None) -> TarFiles:
    """The files of the tar at `path` (`-`: standard input); copied into `directory` if it cannot be read in place.

    To be closed.

    Raises:
        What `TarFiles` and `spool.spooled` raise.
    """
    if path != STANDARD_INPUT:
        file, _ = open_regular(path, str(path))
        with file:
            head = file.read(MAGIC_LENGTH)
        if sniff(head) is Compression.NONE:
            return TarFiles(path)
    copy = spooled(path, directory, reporter)
    try:
        return TarFiles(shown(path), copy)
    except BaseException:
        copy.close()
        raise


class _Section(io.RawIOBase):
    """A part of a file, as a file; owns the file."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file = file
        self._left = length
        file.seek(start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count: int = self._file.readinto(memoryview(buffer)[: self._left])  # type: ignore[attr-defined]
        self._left -= count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
