"""A file's bytes become blocks as they come; what is a hole, or long runs of zeros, costs none.

Archives made by tools that know no sparse files hold zeros for their holes, gigabytes of them at times.
"""

from propolis.disk.ext4.node import Extent, Node
from propolis.disk.ext4.stream import BlockStream
from propolis.disk.ext4.structs import BLOCK_SIZE

WINDOW = 64 << 10
"""Bytes: zeros become a hole where they fill such a part of a file, counted from its start. Shorter runs would cost
more in extents than they save."""
_ZEROS = bytes(WINDOW)


class ContentWriter:
    """Appends the content of one file after the other to a stream."""

    def __init__(self, stream: BlockStream) -> None:
        self._stream = stream
        self._node: Node | None = None
        self._position = 0
        self._zeros = 0
        """How many of the last bytes are zeros that have not been written: all of their window so far."""
        self._extents: list[Extent] = []

    def begin(self, node: Node) -> None:
        """The next bytes are those of `node`, from its start."""
        self._node, self._position, self._zeros, self._extents = node, 0, 0, []

    def whole(self, node: Node, view: memoryview) -> None:
        """All of the content of `node`, less than a window, in place of the other calls; its memory as in `data`."""
        first, count = self._stream.append_padded(view)
        node.extents = ((0, first, count),)

    def data(self, view: memoryview) -> None:
        """Take bytes; their memory must stay as it is until the stream's commit."""
        begin = end = 0
        while end < len(view):
            passed = (self._position + self._zeros + end - begin) % WINDOW
            part = view[end : end + WINDOW - passed]
            end += len(part)
            if passed != self._zeros or part[0] or part[-1] or bytes(part) != _ZEROS[: len(part)]:
                self._flush()  # and what `part` adds to is not zeros alone
                continue
            self._append(view[begin : end - len(part)])
            begin = end
            self._zeros += len(part)
            if self._zeros == WINDOW:
                self._pass(WINDOW)
                self._zeros = 0
        self._append(view[begin:])

    def hole(self, length: int) -> None:
        """Pass over zeros; a block that is begun is filled with them."""
        self._flush()
        self._pass(length)

    def end(self) -> None:
        """Nothing more comes for this file."""
        self._pass(self._zeros)
        self._stream.pad()
        if self._node is not None:
            self._node.extents = tuple(self._extents)
        self._node = None

    def _flush(self) -> None:
        """Write the zeros that were held back."""
        if self._zeros:
            zeros, self._zeros = self._zeros, 0
            self._append(memoryview(_ZEROS)[:zeros])

    def _append(self, view: memoryview) -> None:
        if not view:
            return
        offset = self._position % BLOCK_SIZE
        if self._stream.is_aligned:
            self._open_block(self._position // BLOCK_SIZE)
            self._stream.zeros(offset)
        covered = -(-(offset + len(view)) // BLOCK_SIZE) - 1
        self._stream.append(view)
        self._position += len(view)
        if covered:
            logical, physical, count = self._extents[-1]
            self._extents[-1] = (logical, physical, count + covered)

    def _pass(self, length: int) -> None:
        begun = self._position % BLOCK_SIZE
        self._position += length
        if not self._stream.is_aligned:
            self._stream.zeros(min(length, BLOCK_SIZE - begun))

    def _open_block(self, logical: int) -> None:
        """The stream's next block is the file's block `logical`."""
        extents = self._extents
        if extents:
            first, physical, count = extents[-1]
            if first + count == logical and physical + count == self._stream.block:
                extents[-1] = (first, physical, count + 1)
                return
        extents.append((logical, self._stream.block, 1))
