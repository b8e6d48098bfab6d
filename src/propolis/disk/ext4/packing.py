"""Directories put away while a tree is taken in: what is in them as bytes, a tenth of what it takes as objects.

An archive comes back to few of the directories that it has left, so even a million files need little memory. Knows
inodes; nothing of paths, of what is open, or of when to put away.
"""

from collections.abc import Callable, MutableMapping

from propolis.disk.ext4.large import LargeDirectory
from propolis.disk.ext4.node import Node
from propolis.disk.ext4.records import Records

LARGE = 1 << 12
"""Names in a directory from which on it is packed away part by part, even while the archive is in it."""


class Packing:
    """Takes what is in a directory away from it, and gives it back."""

    def __init__(self, came_back: Callable[[int], None] = lambda _: None) -> None:
        """`came_back` is told of how many names of a large directory are inodes again."""
        self._stored: list[bytes | LargeDirectory] = [b""]
        self._free: list[int] = []
        self._records = Records()
        self._came_back = came_back

    def thin(self, directory: Node) -> int:
        """Put away what is in `directory` if it is large, while it is in use; returns how many names are left."""
        children = directory.children
        assert children is not None
        if not isinstance(children, LargeDirectory):
            if len(children) < LARGE:
                return len(children)
            directory.children = children = LargeDirectory(self._records, directory, children, self._came_back)
        children.put_away()
        return 0

    def pack(self, directory: Node) -> None:
        """Put away what is in `directory`; directories in it should have been put away before."""
        self.thin(directory)
        children = directory.children
        assert children is not None
        stored = children if isinstance(children, LargeDirectory) else self._records.pack(children)
        if self._free:
            directory.packed = self._free.pop()
            self._stored[directory.packed] = stored
        else:
            directory.packed = len(self._stored)
            self._stored.append(stored)
        directory.children = {}

    def open(self, directory: Node) -> int:
        """Give `directory` back what is in it, as new inodes; returns how many."""
        children = directory.children = self.children(directory.packed)
        self._stored[directory.packed] = b""
        self._free.append(directory.packed)
        directory.packed = 0
        if isinstance(children, LargeDirectory):
            children.move(directory)
            return 0
        for node in children.values():
            if node.children is not None:
                node.parent = directory
        return len(children)

    def children(self, place: int) -> MutableMapping[bytes, Node]:
        """What is in the directory that is packed at `place`, which stays as it is."""
        stored = self._stored[place]
        return stored if isinstance(stored, LargeDirectory) else self._records.unpack(stored)
