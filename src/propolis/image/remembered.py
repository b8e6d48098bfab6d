"""The files of an archive that cannot be read in place, as far as they are known from an earlier look at it.

Finding an image asks the archive for little: its documents, and how its layers begin. That is noted and kept, so as
long as the file stays as it is, whoever asks the same is answered without it. What nobody asked before, and any layer,
has it uncompressed. Knows nothing of how images lie in it.
"""

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from propolis.errors import ImageInvalid, PropolisError
from propolis.image import tar_files
from propolis.image.archive_records import MAX_CONTENT, ArchiveRecords, Known, Member
from propolis.image.compression import MAGIC_LENGTH, Compression, sniff
from propolis.image.file_state import is_settled, state_of
from propolis.image.files import Files, open_regular
from propolis.image.spool import STANDARD_INPUT
from propolis.image.store import BlobStore
from propolis.progress import Reporter


class RememberedArchive:
    """The compressed archive at `path`; see `Files`."""

    def __init__(self, path: Path, store: BlobStore, reporter: Reporter | None = None) -> None:
        """Read what is remembered of it, and nothing of the archive.

        Raises:
            ImageError: it is not there.
        """
        self._path, self._spool, self._reporter = path, store.spool, reporter
        self._records = ArchiveRecords(store.archives)
        self._state = state_of(path)
        remembered = self._records.read(path, self._state)
        self._is_known = remembered is not None
        self._begins_like_image = remembered is not None and remembered.begins_like_image
        self._members = dict(remembered.members if remembered is not None else {})
        self._content = sum(len(member.head) for member in self._members.values() if member is not None)
        self._is_noting, self._has_news, self._is_reliable = True, False, True
        self._copy: Files | None = None
        self._failure: PropolisError | None = None
        self._lock = threading.Lock()

    @property
    def where(self) -> str:
        """See `Files.where`."""
        return str(self._path)

    def __contains__(self, name: str) -> bool:
        return self._member(name) is not None

    def open(self, name: str) -> tuple[BinaryIO, int]:
        """See `Files.open`."""
        member = self._member(name) if self._is_noting else None
        if member is None:
            return self._uncompressed().open(name)
        return cast(BinaryIO, _Noted(self, name, member.size)), member.size

    def begins_like_image(self, look: Callable[[Path], bool]) -> bool:
        """Whether it begins as the archives of images do, as `look` tells; a yes is noted."""
        if not self._begins_like_image and look(self._path):
            self._begins_like_image = self._has_news = True
        return self._begins_like_image

    def close(self) -> None:
        """See `Files.close`."""
        if self._copy is not None:
            self._copy.close()

    def remember(self, digest: str) -> None:
        """Keep what was asked until now, which led to the image `digest`. What is asked from now on is not noted."""
        self._is_noting = False
        if not self._has_news:
            self._records.touch(self._path)
        elif self._is_reliable and self._content <= MAX_CONTENT:
            known = Known(members=self._members, begins_like_image=self._begins_like_image)
            self._records.keep(self._path, self._state, digest, known)

    def head(self, name: str) -> bytes:
        """What is known of a member's content."""
        member = self._members.get(name)
        return b"" if member is None else member.head

    def rest(self, name: str, position: int) -> BinaryIO:
        """A member from `position` on, which is not known."""
        file, _ = self._uncompressed().open(name)
        while position and (skipped := file.read(position)):
            position -= len(skipped)
        return file

    def note(self, name: str, size: int, piece: bytes) -> None:
        """`piece` is what follows what was known of the member."""
        self._content += len(piece)
        if self._is_noting and self._content <= MAX_CONTENT:
            self._members[name] = Member(size, self.head(name) + piece)
            self._has_news = True

    def _member(self, name: str) -> Member | None:
        if name in self._members:
            return self._members[name]
        archive, member = self._uncompressed(), None
        if name in archive:
            file, size = archive.open(name)
            file.close()
            member = Member(size)
        if self._is_noting:
            self._members[name] = member
            self._has_news = True
        return member

    def _uncompressed(self) -> Files:
        """The archive's copy; made once, by who asks first, also if that fails."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._copy is None:
                try:
                    self._copy = self._copied()
                except PropolisError as error:
                    self._failure = error
                    raise
            return self._copy

    def _copied(self) -> Files:
        began = time.time_ns()
        copy = tar_files.open_archive(self._path, self._spool, self._reporter)
        try:
            is_same = state_of(self._path) == self._state
            if not is_same and self._is_known:  # what was remembered does not belong to this
                raise ImageInvalid(f"{self._path} changed while it was read", hint="try again when it is complete")
        except BaseException:
            copy.close()
            raise
        self._is_reliable = is_same and is_settled(self._state, began)
        return copy


class _Noted(io.RawIOBase):
    """A member: what is known of it, then what the archive has, which becomes known."""

    def __init__(self, archive: RememberedArchive, name: str, size: int) -> None:
        self._archive, self._name, self._size = archive, name, size
        self._position = 0
        self._rest: BinaryIO | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        view, filled = memoryview(buffer), 0
        while filled < len(view) and (piece := self._piece(len(view) - filled)):
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
        return filled

    def close(self) -> None:
        if self._rest is not None:
            self._rest.close()
        super().close()

    def _piece(self, length: int) -> bytes:
        known = self._archive.head(self._name)
        if self._position < len(known):
            piece = known[self._position : self._position + length]
        elif self._position >= self._size:
            piece = b""
        else:
            if self._rest is None:
                self._rest = self._archive.rest(self._name, self._position)
            piece = self._rest.read(min(length, self._size - self._position))
            self._archive.note(self._name, self._size, piece)
        self._position += len(piece)
        return piece


def open_archive(path: Path, store: BlobStore, reporter: Reporter | None = None) -> Files:
    """The files of the tar at `path` (`-`: standard input), in place or, from a compressed one, remembered.

    To be closed.

    Raises:
        What `tar_files.open_archive` raises; where the archive is compressed, so does whatever is asked of it.
    """
    if path != STANDARD_INPUT:
        file, _ = open_regular(path, str(path))
        with file:
            head = file.read(MAGIC_LENGTH)
        if sniff(head) is not Compression.NONE:
            return RememberedArchive(path, store, reporter)
    return tar_files.open_archive(path, store.spool, reporter)
