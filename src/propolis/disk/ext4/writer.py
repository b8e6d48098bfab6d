"""Writes ext4 file systems in one pass: a layer's, pushed in entry by entry, and a machine's own, mostly empty one.

Content goes to the file as it comes; everything else is written at the end, the superblock last. The same entries give
the same bytes, however their content was cut. In memory is the tree without its content.
"""

from collections.abc import Mapping

from propolis.disk.base import DiskWriter, FileSystemOptions
from propolis.disk.ext4 import plan
from propolis.disk.ext4.content import WINDOW, ContentWriter
from propolis.disk.ext4.metadata import LOST_FOUND, MetadataWriter
from propolis.disk.ext4.node import Node, shown
from propolis.disk.ext4.order import InodeOrder
from propolis.disk.ext4.stream import BlockStream
from propolis.disk.ext4.structs import BLOCK_SIZE, S_IFDIR, S_IFREG
from propolis.disk.ext4.superblock import identity
from propolis.disk.ext4.tree import LowerLayers, Tree
from propolis.errors import ImageInvalid, InvalidArgument, LayerUnsupported
from propolis.host.memory import collection_paused
from propolis.tree import Entry

USUAL_MODE = 0o755
"""Of a root that the layer does not mention."""
TREE = b"tree"
"""The directory of a layer's disk that holds the layer's tree."""


LEAST_SIZE = 1 << 20
MOST_LABEL = 16
"""Bytes."""


class LayerWriter:
    """A `TreeSink` that makes a layer's disk. Call `finish` after the last entry."""

    def __init__(
        self,
        disk: DiskWriter,
        *,
        what: str,
        lower: LowerLayers,
        tree: bytes = TREE,
        options: FileSystemOptions | None = None,
        assumes: bool = False,
    ) -> None:
        """Write to the empty `disk`; errors name `what`. The tree lies in the directory `tree`, or is the root (b"").

        For `assumes` see `Tree`; then `entry` may raise what is no fault of the layer's, which `settle` tells, and
        `settle` and `finish` may raise WrongAssumption.

        Raises:
            InvalidArgument: no file system can have these options.
        """
        self._options = check(options or FileSystemOptions())
        self._root, self._lost_found = _root()
        base = self._root
        if tree:
            base = Node(S_IFDIR | USUAL_MODE)
            _attach(self._root, tree, base)
        self._tree = Tree(base, what, lower, assumes=assumes)
        self._lower = lower
        self._start = plan.content_start(self._options.size)
        self._stream = BlockStream(disk, self._start)
        self._content = ContentWriter(self._stream)
        self._what = what
        self._path = b""
        self._node: Node | None = None
        """The file whose content is being taken."""
        self._left = 0
        """Bytes that it still lacks."""
        self._begun = False

    def entry(self, entry: Entry) -> None:
        """See `TreeSink.entry`."""
        if self._node is not None:
            self._close()
        node = self._tree.add(entry)
        if node is not None and node.size:
            self._node, self._left, self._begun = node, node.size, False
            self._path = entry.path

    def data(self, view: memoryview) -> None:
        """See `TreeSink.data`."""
        length = len(view)
        if length == self._left < WINDOW and not self._begun and self._node is not None:
            self._content.whole(self._node, view)
            self._node = None
        elif length:
            self._take(length)
            self._content.data(view)

    def hole(self, length: int) -> None:
        """See `TreeSink.hole`."""
        if length:
            self._take(length)
            self._content.hole(length)

    def _take(self, length: int) -> None:
        if self._node is None or length > self._left:
            raise ImageInvalid(f"{self._what}: {shown(self._path)} has more content than its size says")
        if not self._begun:
            self._content.begin(self._node)
            self._begun = True
        self._left -= length

    def commit(self) -> None:
        """See `TreeSink.commit`."""
        self._stream.commit()

    def settle(self) -> None:
        """See `Tree.settle`."""
        self._tree.settle()

    def finish(self, key: str) -> int:
        """Write all metadata, with identifiers from `key`; returns the file system's size in bytes."""
        with collection_paused():
            return self._finish(key)

    def _finish(self, key: str) -> int:
        self._close()
        self._tree.finish()
        for path, node in self._tree.copied.items():
            self._copy(path, node)
        if self._root.children is None or self._root.children.get(LOST_FOUND) is not self._lost_found:
            raise LayerUnsupported(f"{self._what}: lost+found in the root of an ext4 file system must be a directory")
        order = InodeOrder(self._root, self._lost_found, self._tree.packing)
        metadata = MetadataWriter(self._stream, identity(key, self._options.label), self._what)
        metadata.write_inode_blocks(self._root, order)
        if self._options.journal:
            metadata.write_journal(self._options.size or self._stream.block * BLOCK_SIZE)
        layout = self._layout(order.last)
        used = plan.without([(self._start, self._stream.block - self._start)], self._tree.freed)
        metadata.write_tables(layout, self._root, order, used)
        self._stream.finish(layout.blocks, key)
        return layout.blocks * BLOCK_SIZE

    def _layout(self, inodes: int) -> plan.Layout:
        end, size = self._stream.block, self._options.size
        if size is None and end > plan.most_content(None):
            raise LayerUnsupported(
                f"{self._what} unpacks to more than a layer's disk holds ({end * BLOCK_SIZE >> 30} GiB)"
            )
        layout = plan.behind_content(end, inodes, size)
        if layout is None:
            smallest = plan.behind_content(end, inodes)
            needed = -(-smallest.blocks * BLOCK_SIZE >> 20) if smallest else end * BLOCK_SIZE >> 20
            raise InvalidArgument(
                f"{self._what} does not fit on a disk of {(size or 0) >> 20} MiB",
                hint=f"it needs some {needed + needed // 50 + 1} MiB; leave the size out for the smallest disk",
            )
        return layout

    def _copy(self, path: bytes, node: Node) -> None:
        self._content.begin(node)
        for piece in self._lower.content(path) if node.kind == S_IFREG else ():
            if isinstance(piece, int):
                self._content.hole(piece)
            else:
                self._content.data(memoryview(piece))
                self._stream.commit()
        self._content.end()

    def _close(self) -> None:
        if self._node is None:
            return
        if self._left:
            raise ImageInvalid(f"{self._what}: {shown(self._path)} has less content than its size says")
        self._content.end()
        self._node = None


def check(options: FileSystemOptions) -> FileSystemOptions:
    """Refuse what no file system can have, before any work.

    Raises:
        InvalidArgument: a size or a label out of range.
    """
    size = options.size
    if size is not None and not LEAST_SIZE <= size <= plan.MOST_BLOCKS * BLOCK_SIZE:
        raise InvalidArgument(
            f"a disk of {size} bytes cannot be made",
            hint=f"choose a size from {LEAST_SIZE >> 20} MiB to {plan.MOST_BLOCKS * BLOCK_SIZE >> 40} TiB",
        )
    if len(options.label.encode()) > MOST_LABEL or "\0" in options.label:
        raise InvalidArgument(f"the label {options.label[:40]!r} is longer than {MOST_LABEL} bytes")
    return options


def write_writable(
    disk: DiskWriter,
    *,
    size: int,
    key: str,
    directories: Mapping[bytes, Node],
    files: Mapping[bytes, bytes],
    journal: bool = False,
) -> None:
    """Make a writable disk of `size` bytes with empty directories and files (mode 0600) in its root.

    The file is as long as `size` says, less a last group that would be too short, and nearly all of it is hole.
    """
    layout = plan.before_content(size)
    root, lost_found = _root()
    stream = BlockStream(disk, layout.content)
    content = ContentWriter(stream)
    for name, directory in directories.items():
        _attach(root, name, directory)
    for name, data in files.items():
        node = Node(S_IFREG | 0o600)
        node.size = len(data)
        _attach(root, name, node)
        content.begin(node)
        content.data(memoryview(data))
        content.end()
    order = InodeOrder(root, lost_found)
    metadata = MetadataWriter(stream, identity(key), "the machine's disk")
    metadata.write_inode_blocks(root, order)
    if journal:
        metadata.write_journal(size)
    metadata.write_tables(layout, root, order, [(layout.content, stream.block - layout.content)])
    stream.finish(layout.blocks, key)


def _root() -> tuple[Node, Node]:
    """The root and its lost+found, which e2fsck expects."""
    root, lost_found = Node(S_IFDIR | 0o755), Node(S_IFDIR | 0o700)
    _attach(root, LOST_FOUND, lost_found)
    return root, lost_found


def _attach(parent: Node, name: bytes, node: Node) -> None:
    assert parent.children is not None
    parent.children[name] = node
    node.parent = parent
    node.links = 1
