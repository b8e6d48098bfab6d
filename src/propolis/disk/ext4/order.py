"""The order of a tree's inodes: their numbers follow it, and so does everything that is written of them.

What is in a directory has consecutive numbers, directories come level by level, and a directory that is packed away is
opened for as long as it is looked at. So a tree can be gone through as often as need be, at little memory.
"""

from array import array
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from propolis.disk.ext4.node import Node, shown
from propolis.disk.ext4.packing import Packing
from propolis.disk.ext4.structs import EXT4_GOOD_OLD_FIRST_INO, EXT4_ROOT_INO


class Opened(NamedTuple):
    """A directory on the way through the tree; all inodes in it have their numbers."""

    ino: int
    parent: int
    children: Mapping[bytes, Node]
    new: list[Node]
    """Those of `children` that have been in no directory before, in the order of their numbers."""


class InodeOrder:
    """All directories of the tree below `root`, each iteration from the first. Gives every inode its number."""

    def __init__(self, root: Node, lost_found: Node, packing: Packing | None = None) -> None:
        """Begin with `root` and `lost_found`, which lies in it and has the first number."""
        root.ino, root.links, lost_found.ino = EXT4_ROOT_INO, 1, EXT4_GOOD_OLD_FIRST_INO
        self._packing = packing
        self._numbers = array("I")
        self._parents = array("I")
        self._places = array("I")
        self._open: dict[int, Node] = {}
        """By place in the order: directories that are not packed."""
        self.last = lost_found.ino
        """The highest number that was given."""
        self._add(root, EXT4_ROOT_INO)
        self._add(lost_found, EXT4_ROOT_INO)

    def __iter__(self) -> Iterator[Opened]:
        number, told, at = EXT4_GOOD_OLD_FIRST_INO + 1, 2, 0
        while at < len(self._numbers):
            children = self._children(at)
            ino = self._numbers[at]
            new: list[Node] = []
            for node in children.values():
                if node.ino and node.ino != number:
                    continue  # by another name before
                node.ino = number
                number += 1
                new.append(node)
                if node.children is not None:
                    if told == len(self._numbers):
                        self._add(node, ino)
                    told += 1
            self.last = max(self.last, number - 1)
            yield Opened(ino, self._parents[at], children, new)
            at += 1

    def path(self, number: int) -> str:
        """A path to the inode of that number, for a message."""
        names: list[bytes] = []
        while number != EXT4_ROOT_INO:
            for directory in self:
                name = next((name for name, node in directory.children.items() if node.ino == number), None)
                if name is not None:
                    names.append(name)
                    number = directory.ino
                    break
            else:
                break
        return shown(b"/".join(reversed(names)))

    def _add(self, directory: Node, parent: int) -> None:
        if not directory.packed:
            self._open[len(self._numbers)] = directory
        self._numbers.append(directory.ino)
        self._parents.append(parent)
        self._places.append(directory.packed)

    def _children(self, at: int) -> Mapping[bytes, Node]:
        if not self._places[at]:
            return self._open[at].children or {}
        assert self._packing is not None
        return self._packing.children(self._places[at])
