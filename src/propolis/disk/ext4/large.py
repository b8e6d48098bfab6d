"""What is in a directory of very many names: all but the latest of them packed, part by part, and found through hashes.

The names keep the order in which they came. Whatever is asked for comes back as an inode, with the part that it is in,
until it is put away again. Knows how inodes become bytes; nothing of paths, or of when to put away.
"""

from array import array
from collections.abc import Callable, ItemsView, Iterator, MutableMapping, ValuesView
from itertools import islice
from typing import TypeVar, overload

from propolis.disk.ext4.node import Node
from propolis.disk.ext4.records import Records

_PART = 1 << 10
"""Names that are packed together: what one that is asked for brings back."""
_PART_BITS = 24
_PARTS = (1 << _PART_BITS) - 1
_HASH = (1 << 64 - _PART_BITS) - 1
_REMOVED = 1
"""An entry of the index that stands for no name, as its hash is 0."""
_T = TypeVar("_T")


class _Index:
    """Which part a name is in, by open addressing: 40 bits of the name's hash, and the part's number."""

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 * 1024))
        self._used = 0

    def add(self, hash_: int, part: int) -> None:
        """A name of this hash is in `part` now."""
        if self._used * 2 >= len(self._table):
            self._grow()
        self._put((hash_ & _HASH or 1) << _PART_BITS | part)
        self._used += 1

    def find(self, hash_: int) -> Iterator[tuple[int, int]]:
        """Where in the index, and in which part, names of this hash may be."""
        table, wanted = self._table, hash_ & _HASH or 1
        mask = len(table) - 1
        at = wanted & mask
        while entry := table[at]:
            if entry >> _PART_BITS == wanted:
                yield at, entry & _PARTS
            at = at + 1 & mask

    def remove(self, at: int) -> None:
        """Forget what was found at `at`."""
        self._table[at] = _REMOVED

    def _put(self, entry: int) -> None:
        table = self._table
        mask = len(table) - 1
        at = entry >> _PART_BITS & mask
        while table[at]:
            at = at + 1 & mask
        table[at] = entry

    def _grow(self) -> None:
        before = self._table
        self._used = sum([entry > _REMOVED for entry in before])
        self._table = array("Q", bytes(8 * max(1024, 1 << (3 * self._used).bit_length())))
        for entry in before:
            if entry > _REMOVED:
                self._put(entry)


class LargeDirectory(MutableMapping[bytes, Node]):
    """The names in one directory, as a dictionary has them."""

    def __init__(
        self,
        records: Records,
        directory: Node,
        children: MutableMapping[bytes, Node],
        came_back: Callable[[int], None],
    ) -> None:
        """Take over `children`, which are in `directory`; `came_back` is told of how many names are inodes again."""
        self._records = records
        self._came_back = came_back
        self._directory = directory
        self._parts: list[bytes | dict[bytes, Node]] = []
        self._back: dict[int, dict[bytes, Node]] = {}
        """The parts that are no bytes at present."""
        self._latest = dict(children)
        self._index = _Index()
        self._count = len(children)

    def move(self, directory: Node) -> None:
        """All of it is in `directory` now, which is a new inode for the old one."""
        self._directory = directory

    def put_away(self) -> None:
        """Pack every name."""
        for number, part in self._back.items():
            self._parts[number] = self._records.pack(part)
        self._back = {}
        latest, add = iter(self._latest.items()), self._index.add
        while part := dict(islice(latest, _PART)):
            for name in part:
                add(hash(name), len(self._parts))
            self._parts.append(self._records.pack(part))
        self._latest = {}

    def __getitem__(self, name: bytes) -> Node:
        node = self._latest.get(name)
        if node is None:
            found = self._find(name)
            if found is None:
                raise KeyError(name)
            return found[1][name]
        return node

    @overload
    def get(self, key: bytes, /) -> Node | None: ...
    @overload
    def get(self, key: bytes, /, default: Node | _T) -> Node | _T: ...
    def get(self, key: bytes, /, default: object = None) -> object:
        """As a dictionary's."""
        try:
            return self[key]
        except KeyError:
            return default

    def __setitem__(self, name: bytes, node: Node) -> None:
        found = None if name in self._latest else self._find(name)
        if found is not None:
            found[1][name] = node
            return
        self._count += name not in self._latest
        self._latest[name] = node

    def __delitem__(self, name: bytes) -> None:
        if name in self._latest:
            del self._latest[name]
        else:
            found = self._find(name)
            if found is None:
                raise KeyError(name)
            at, part = found
            del part[name]
            self._index.remove(at)
        self._count -= 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        return (name for name, _ in self.entries())

    def items(self) -> ItemsView[bytes, Node]:
        """As a dictionary's; what is packed comes as new inodes, and stays as it is."""
        return _Items(self)

    def values(self) -> ValuesView[Node]:
        """As `items`."""
        return _Values(self)

    def entries(self) -> Iterator[tuple[bytes, Node]]:
        """All names, one part after the other in memory."""
        for part in self._parts:
            yield from (self._records.unpack(part) if isinstance(part, bytes) else part).items()
        yield from self._latest.items()

    def _find(self, name: bytes) -> tuple[int, dict[bytes, Node]] | None:
        """Where in the index it stands, and the part that it is in."""
        for at, number in self._index.find(hash(name)):
            part = self._back.get(number)
            if part is None:
                packed = self._parts[number]
                assert isinstance(packed, bytes)
                part = self._records.unpack(packed)
                if name not in part:  # another one's hash
                    continue
                self._parts[number] = self._back[number] = part
                self._came_back(len(part))
                for node in part.values():
                    if node.children is not None:
                        node.parent = self._directory
            if name in part:
                return at, part
        return None


class _Items(ItemsView[bytes, Node]):
    _mapping: LargeDirectory

    def __iter__(self) -> Iterator[tuple[bytes, Node]]:
        return self._mapping.entries()


class _Values(ValuesView[Node]):
    _mapping: LargeDirectory

    def __iter__(self) -> Iterator[Node]:
        return (node for _, node in self._mapping.entries())
