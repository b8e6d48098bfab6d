"""The layers below a layer, as one tree: what a path there is, with whiteouts and opaque directories observed.

A layer's archive may leave out the directories on the way to its entries, link to a file of a lower layer, or go
through a symbolic link of one. Then its disk depends on those layers, and `consulted` says so.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from propolis.disk.ext4.node import Node
from propolis.disk.ext4.reader import Inode, Reader
from propolis.disk.ext4.structs import EXT4_ROOT_INO, S_IFCHR, S_IFDIR, S_IFLNK
from propolis.disk.ext4.tree import OPAQUE, ORIGIN
from propolis.disk.ext4.writer import TREE, USUAL_MODE


class Below:
    """A stack of layer disks, bottom first. Opened at the first question; to be closed."""

    def __init__(self, disks: Callable[[], Sequence[Path]]) -> None:
        """Ask `disks` for the files when they are needed; it may wait until they have been made."""
        self._disks = disks
        self._readers: list[Reader] | None = None

    @property
    def consulted(self) -> bool:
        """Whether anything was asked, so that the answers are part of what was made."""
        return self._readers is not None

    def close(self) -> None:
        """Close what was opened."""
        for reader in self._readers or ():
            reader.close()

    def node(self, path: bytes) -> Node | None:
        """See `ext4.tree.LowerLayers`."""
        found = self._find(path)
        if found is None:
            return None
        reader, inode = found
        node = _like(reader, inode)
        node.device = inode.device
        if inode.kind != S_IFDIR:
            node.size = inode.size
        if inode.kind == S_IFLNK:
            node.link = reader.link(inode)
        return node

    def content(self, path: bytes) -> Iterator[bytes | int]:
        """See `ext4.tree.LowerLayers`."""
        found = self._find(path)
        return iter(()) if found is None else found[0].content(found[1])

    def top_names(self) -> set[bytes]:
        """See `ext4.tree.LowerLayers`."""
        return {name for reader in self._opened() for name in reader.children(_tree(reader))}

    def _opened(self) -> list[Reader]:
        """The disks' readers, topmost first."""
        if self._readers is None:
            self._readers = []
            for disk in reversed(self._disks()):
                self._readers.append(Reader(disk))
        return self._readers

    def _find(self, path: bytes) -> tuple[Reader, Inode] | None:
        for reader in self._opened():
            inode, hides = _look_up(reader, path)
            if inode is not None:
                return None if inode.kind == S_IFCHR and inode.device == (0, 0) else (reader, inode)
            if hides:
                return None
        return None


def _tree(reader: Reader) -> int:
    """The inode number of the layer's root."""
    number = reader.children(EXT4_ROOT_INO).get(TREE)
    if number is None:
        raise reader.damaged()
    return number


def _look_up(reader: Reader, path: bytes) -> tuple[Inode | None, bool]:
    """One layer's inode at `path`; where it has none, whether it hides what lower layers have there."""
    inode = reader.inode(_tree(reader))
    hides = False
    for name in path.split(b"/") if path else ():
        if inode.kind != S_IFDIR:
            return None, True
        hides = hides or OPAQUE in reader.xattrs(inode)
        number = reader.children(inode.number).get(name)
        if number is None:
            return None, hides
        inode = reader.inode(number)
    return inode, hides


def _like(reader: Reader, inode: Inode) -> Node:
    """A new inode with the same type, owner, mode, time and attributes, but those that speak to overlayfs."""
    node = Node(inode.mode, uid=inode.uid, gid=inode.gid, mtime_ns=inode.mtime_ns)
    node.xattrs = {name: value for name, value in reader.xattrs(inode).items() if name not in (OPAQUE, ORIGIN)}
    return node


def root_directory(disks: Sequence[Path]) -> Node:
    """A new directory like the root that a stack of layer disks (bottom first) shows.

    A layer that does not mention its root has it as the writer makes it, and leaves the word to those below.
    """
    usual = Node(S_IFDIR | USUAL_MODE)
    for disk in reversed(disks):
        with contextlib.closing(Reader(disk)) as reader:
            node = _like(reader, reader.inode(_tree(reader)))
        if (node.mode, node.uid, node.gid, node.mtime_ns, node.xattrs) != (usual.mode, 0, 0, 0, {}):
            return node
    return usual
