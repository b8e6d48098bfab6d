"""The order of a tree's inodes: their numbers follow it, and so does everything that is written of them.

What is in a directory has consecutive numbers, directories come level by level, and a directory that is packed away is
opened for as long as it is looked at. So a tree can be gone through as often as need be, at little memory.
"""

from array import array
from collections.abc import Iterable, Iterator, MutableMapping
from typing import NamedTuple, Protocol

from propolis.disk.ext4.large import LargeDirectory
from propolis.disk.ext4.node import Node, shown
from propolis.disk.ext4.packing import Packing
from propolis.disk.ext4.structs import EXT4_GOOD_OLD_FIRST_INO, EXT4_ROOT_INO


class Entries(Protocol):
    """Names and what they are of; can be gone through again, which may make the inodes anew."""

    def items(self) -> Iterable[tuple[bytes, Node]]:
        """All of them."""

    def __len__(self) -> int: ...


class Opened(NamedTuple):
    """A directory on the way through the tree; all inodes in it have their numbers."""

    ino: int
    parent: int
    children: Entries
    new: Iterable[Node]
    """Those of `children` that have been in no directory before, in the order of their numbers."""
    subdirectories: int = 0
    """How many of `children` are directories."""


class _Numbered:
    """What is in a large directory, whose inodes are made anew and get their numbers each time it is gone through."""

    def __init__(self, children: LargeDirectory, first: int) -> None:
        self._children = children
        self._first = first

    def __len__(self) -> int:
        return len(self._children)

    def items(self) -> Iterator[tuple[bytes, Node]]:
        """As often as need be."""
        return self._entries()

    def _entries(self) -> Iterator[tuple[bytes, Node]]:
        number = self._first
        for name, node in self._children.entries():
            if not node.ino:
                node.ino = number
            number += node.ino == number
            yield name, node

    def __iter__(self) -> Iterator[Node]:
        """Those that have been in no directory before."""
        number = self._first
        for _, node in self._entries():
            if node.ino == number:
                number += 1
                yield node


class InodeOrder:
    """All directories of the tree below `root`, each iteration from the first. Gives every inode its number."""

    def __init__(self, root: Node, lost_found: Node, packing: Packing | None = None) -> None:
        """Begin with `root` and `lost_found`, which lies in it and has the first number."""
        root.ino, root.links, lost_found.ino = EXT4_ROOT_INO, 1, EXT4_GOOD_OLD_FIRST_INO
        self._packing = packing
        self._numbers = array("I")
        self._parents = array("I")
        self._places = array("I")
        self._large: dict[int, tuple[int, int]] = {}
        """By place in the order: large directories' numbers of new inodes and of directories, once they are known."""
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
            if isinstance(children, LargeDirectory):
                numbered = _Numbered(children, number)
                if at not in self._large:
                    self._large[at] = self._count(numbered, ino, told)
                count, subdirectories = self._large[at]
                number += count
                told += subdirectories
                self.last = max(self.last, number - 1)
                yield Opened(ino, self._parents[at], numbered, numbered, subdirectories + (at == 0))
                at += 1
                continue
            known = told
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
            yield Opened(ino, self._parents[at], children, new, told - known + (at == 0))  # the root's lost+found
            at += 1

    def _count(self, numbered: _Numbered, ino: int, told: int) -> tuple[int, int]:
        """How many inodes of a directory are new, and how many are directories, which this tells of."""
        count, first = 0, told
        for node in numbered:
            count += 1
            if node.children is not None:
                if told == len(self._numbers):
                    self._add(node, ino)
                told += 1
        return count, told - first

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

    def _children(self, at: int) -> MutableMapping[bytes, Node]:
        if not self._places[at]:
            return self._open[at].children or {}
        assert self._packing is not None
        return self._packing.children(self._places[at])
