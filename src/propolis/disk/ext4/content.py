"""A file's bytes become blocks as they come; what is a hole costs none."""

from propolis.disk.ext4.node import Extent, Node
from propolis.disk.ext4.stream import BlockStream
from propolis.disk.ext4.structs import BLOCK_SIZE


class ContentWriter:
    """Appends the content of one file after the other to a stream."""

    def __init__(self, stream: BlockStream) -> None:
        self._stream = stream
        self._node: Node | None = None
        self._position = 0
        self._extents: list[Extent] = []

    def begin(self, node: Node) -> None:
        """The next bytes are those of `node`, from its start."""
        self._node, self._position, self._extents = node, 0, []

    def whole(self, node: Node, view: memoryview) -> None:
        """All of the content of `node` at once, in place of the other calls; its memory as in `data`."""
        first, count = self._stream.append_padded(view)
        node.extents = ((0, first, count),)

    def data(self, view: memoryview) -> None:
        """Append bytes; their memory must stay as it is until the stream's commit."""
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

    def hole(self, length: int) -> None:
        """Pass over zeros; a block that is begun is filled with them."""
        self._position += length
        if not self._stream.is_aligned:
            self._stream.zeros(min(length, self._room_in_block(length)))

    def end(self) -> None:
        """Nothing more comes for this file."""
        self._stream.pad()
        if self._node is not None:
            self._node.extents = tuple(self._extents)
        self._node = None

    def _room_in_block(self, length: int) -> int:
        before = (self._position - length) % BLOCK_SIZE
        return BLOCK_SIZE - before

    def _open_block(self, logical: int) -> None:
        """The stream's next block is the file's block `logical`."""
        extents = self._extents
        if extents:
            first, physical, count = extents[-1]
            if first + count == logical and physical + count == self._stream.block:
                extents[-1] = (first, physical, count + 1)
                return
        extents.append((logical, self._stream.block, 1))
