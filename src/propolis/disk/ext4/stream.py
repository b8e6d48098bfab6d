"""The disk that a file system is written to: blocks appended in order, a few places filled in later.

Appended views are queued and written together on `commit`, so that a layer's content is copied once, from the caller's
buffer to the page cache.
"""

from propolis.disk.base import DiskWriter
from propolis.disk.ext4.structs import BLOCK_SIZE

_MOST_VIEWS = 1000
_ZEROS = memoryview(bytes(BLOCK_SIZE))


class BlockStream:
    """Appends to `disk` from block `first` on. Not for use by several threads."""

    def __init__(self, disk: DiskWriter, first: int) -> None:
        self._disk = disk
        self._views: list[memoryview] = []
        self._written = self._position = first * BLOCK_SIZE

    @property
    def block(self) -> int:
        """The block that the next byte belongs to, or begins."""
        return self._position // BLOCK_SIZE

    @property
    def is_aligned(self) -> bool:
        """Whether the next byte begins a block."""
        return not self._position % BLOCK_SIZE

    def append_padded(self, view: memoryview) -> tuple[int, int]:
        """Queue whole blocks, the last filled with zeros; returns the first block and their number. As `append`."""
        length, first = len(view), self._position // BLOCK_SIZE
        self._views.append(view)
        missing = -length % BLOCK_SIZE
        if missing:
            self._views.append(_ZEROS[:missing])
        self._position += length + missing
        if len(self._views) >= _MOST_VIEWS:
            self.commit()
        return first, (length + missing) // BLOCK_SIZE

    def append(self, view: memoryview | bytes) -> None:
        """Queue bytes; a memoryview's memory must stay as it is until `commit`."""
        views = self._views
        views.append(memoryview(view))
        self._position += len(view)
        if len(views) >= _MOST_VIEWS:
            self.commit()

    def zeros(self, length: int) -> None:
        """Queue `length` zero bytes."""
        while length > 0:
            self.append(_ZEROS[:length])
            length -= BLOCK_SIZE

    def pad(self) -> None:
        """Fill the begun block with zeros."""
        missing = -self._position % BLOCK_SIZE
        if missing:
            self._views.append(_ZEROS[:missing])
            self._position += missing

    def skip(self, blocks: int) -> None:
        """Leave that many blocks as they are: zeros."""
        self.commit()
        self._position += blocks * BLOCK_SIZE
        self._written = self._position

    def commit(self) -> None:
        """Write everything that is queued."""
        if self._views:
            self._disk.write(self._written, self._views)
            self._views = []
        self._written = self._position

    def fill(self, block: int, data: bytes | bytearray) -> None:
        """Write `data` at `block`, which was passed over."""
        self._disk.write(block * BLOCK_SIZE, [memoryview(data)])

    def finish(self, blocks: int, key: str) -> None:
        """Write what is queued; the disk has `blocks` blocks, and `key` tells it from others."""
        self.commit()
        self._disk.finish(blocks * BLOCK_SIZE, key)
