"""Writes ext4 file systems in one pass: a layer's, pushed in entry by entry, and a machine's own, mostly empty one.

Content goes to the file as it comes; everything else is written at the end, the superblock last. The same entries give
the same bytes, however their content was cut. In memory is the tree without its content.
"""

from collections.abc import Mapping

from propolis.disk.base import DiskWriter
from propolis.disk.ext4 import plan
from propolis.disk.ext4.content import ContentWriter
from propolis.disk.ext4.metadata import MetadataWriter, identity, number_inodes
from propolis.disk.ext4.node import Node, shown
from propolis.disk.ext4.stream import BlockStream
from propolis.disk.ext4.structs import BLOCK_SIZE, EXT4_GOOD_OLD_FIRST_INO, S_IFDIR, S_IFREG
from propolis.disk.ext4.tree import LowerLayers, Tree
from propolis.errors import ImageInvalid, LayerUnsupported
from propolis.tree import Entry

WRITER_VERSION = 1
"""Part of every cache key: raise it when the same entries give other bytes."""
USUAL_MODE = 0o755
"""Of a root that the layer does not mention."""
TREE = b"tree"
"""The directory of a layer's disk that holds the layer's tree."""


class LayerWriter:
    """A `TreeSink` that makes a layer's disk. Call `finish` after the last entry."""

    def __init__(self, disk: DiskWriter, *, what: str, lower: LowerLayers) -> None:
        """Write to the empty `disk`; errors name `what`."""
        self._root, self._lost_found = _root()
        base = Node(S_IFDIR | USUAL_MODE)
        _attach(self._root, TREE, base)
        self._tree = Tree(base, what, lower)
        self._lower = lower
        self._stream = BlockStream(disk, plan.LAYER_CONTENT)
        self._content = ContentWriter(self._stream)
        self._what = what
        self._path = b""
        self._left: int | None = None
        """Bytes of content that the last FILE entry still lacks; None when it had none."""

    def entry(self, entry: Entry) -> None:
        """See `TreeSink.entry`."""
        self._close()
        node = self._tree.add(entry)
        if node is not None and entry.size:
            self._content.begin(node)
            self._path, self._left = entry.path, entry.size

    def data(self, view: memoryview) -> None:
        """See `TreeSink.data`."""
        if view:
            self._take(len(view))
            self._content.data(view)

    def hole(self, length: int) -> None:
        """See `TreeSink.hole`."""
        if length:
            self._take(length)
            self._content.hole(length)

    def _take(self, length: int) -> None:
        if self._left is None or length > self._left:
            raise ImageInvalid(f"{self._what}: {shown(self._path)} has more content than its size says")
        self._left -= length

    def commit(self) -> None:
        """See `TreeSink.commit`."""
        self._stream.commit()

    def finish(self, key: str) -> int:
        """Write all metadata, with identifiers from `key`; returns the file system's size in bytes."""
        self._close()
        self._tree.finish()
        for path, node in self._tree.copied.items():
            self._copy(path, node)
        nodes = number_inodes(self._root, self._lost_found)
        metadata = MetadataWriter(self._stream, identity(key), self._what)
        metadata.write_inode_blocks([self._root, *nodes])
        end = self._stream.block
        if end > plan.MOST_LAYER_BLOCKS * 15 // 16:
            raise LayerUnsupported(
                f"{self._what} unpacks to more than a layer's disk holds ({end * BLOCK_SIZE >> 30} GiB)"
            )
        layout = plan.behind_content(end, EXT4_GOOD_OLD_FIRST_INO - 1 + len(nodes))
        freed = [(physical, count) for node in self._tree.dropped for _, physical, count in node.extents]
        used = plan.without([(plan.LAYER_CONTENT, end - plan.LAYER_CONTENT)], freed)
        metadata.write_tables(layout, self._root, nodes, used)
        self._stream.finish(layout.blocks, key)
        return layout.blocks * BLOCK_SIZE

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
        if self._left:
            raise ImageInvalid(f"{self._what}: {shown(self._path)} has less content than its size says")
        if self._left is not None:
            self._content.end()
            self._left = None


def write_writable(
    disk: DiskWriter, *, size: int, key: str, directories: Mapping[bytes, Node], files: Mapping[bytes, bytes]
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
    nodes = number_inodes(root, lost_found)
    metadata = MetadataWriter(stream, identity(key), "the machine's disk")
    metadata.write_inode_blocks([root, *nodes])
    metadata.write_tables(layout, root, nodes, [(layout.content, stream.block - layout.content)])
    stream.finish(layout.blocks, key)


def _root() -> tuple[Node, Node]:
    """The root and its lost+found, which e2fsck expects."""
    root, lost_found = Node(S_IFDIR | 0o755), Node(S_IFDIR | 0o700)
    _attach(root, b"lost+found", lost_found)
    return root, lost_found


def _attach(parent: Node, name: bytes, node: Node) -> None:
    assert parent.children is not None
    parent.children[name] = node
    node.parent = parent
    node.links = 1
