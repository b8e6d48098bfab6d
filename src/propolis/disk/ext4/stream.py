"""The file a disk is written to: blocks appended in order, a few places filled in later.

Appended views are queued and written together on `commit` (writev where the system has it), so that a layer's content
is copied once, from the caller's buffer to the page cache.
"""

import os
import sys

from propolis.disk.ext4.structs import BLOCK_SIZE

_MOST_VIEWS = 1000
"""Below IOV_MAX, which is 1024 on Linux and macOS."""
_ZEROS = memoryview(bytes(BLOCK_SIZE))


class BlockStream:
    """Appends to `descriptor` from block `first` on. Not for use by several threads."""

    def __init__(self, descriptor: int, first: int) -> None:
        self._descriptor = descriptor
        self._views: list[memoryview] = []
        self._position = first * BLOCK_SIZE
        os.lseek(descriptor, self._position, os.SEEK_SET)

    @property
    def block(self) -> int:
        """The block that the next byte belongs to, or begins."""
        return self._position // BLOCK_SIZE

    @property
    def is_aligned(self) -> bool:
        """Whether the next byte begins a block."""
        return not self._position % BLOCK_SIZE

    def append(self, view: memoryview | bytes) -> None:
        """Queue bytes; a memoryview's memory must stay as it is until `commit`."""
        view = memoryview(view)
        self._views.append(view)
        self._position += len(view)
        if len(self._views) >= _MOST_VIEWS:
            self.commit()

    def zeros(self, length: int) -> None:
        """Queue `length` zero bytes."""
        while length > 0:
            self.append(_ZEROS[:length])
            length -= BLOCK_SIZE

    def pad(self) -> None:
        """Fill the begun block with zeros."""
        self.zeros(-self._position % BLOCK_SIZE)

    def commit(self) -> None:
        """Write everything that is queued."""
        views, self._views = self._views, []
        if sys.platform != "win32":
            _writev(self._descriptor, views)
        else:
            _write(self._descriptor, memoryview(b"".join(views)))

    def fill(self, block: int, data: bytes) -> None:
        """Write `data` at `block`, which was passed over, and return to the end. Commits first."""
        self.commit()
        os.lseek(self._descriptor, block * BLOCK_SIZE, os.SEEK_SET)
        _write(self._descriptor, memoryview(data))
        os.lseek(self._descriptor, self._position, os.SEEK_SET)

    def finish(self, blocks: int) -> None:
        """Write what is queued and make the file `blocks` long."""
        self.commit()
        os.ftruncate(self._descriptor, blocks * BLOCK_SIZE)


if sys.platform != "win32":

    def _writev(descriptor: int, views: list[memoryview]) -> None:
        while views:
            written = os.writev(descriptor, views)
            done = 0
            while done < len(views) and written >= len(views[done]):
                written -= len(views[done])
                done += 1
            views = views[done:]
            if written:
                views[0] = views[0][written:]


def _write(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]
