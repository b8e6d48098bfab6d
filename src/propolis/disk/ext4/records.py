"""What is in a directory as bytes: a record for each name, a tenth of what it takes as objects.

Knows inodes; nothing of directories' places, or of when something becomes bytes.
"""

import struct
from collections.abc import Iterator, Mapping
from zlib import compress, decompress

from propolis.disk.ext4.node import Node
from propolis.disk.ext4.structs import BLOCK_SIZE, S_IFCHR, S_IFREG

_PLAIN, _DIRECTORY, _SYMLINK, _SCATTERED, _WHITEOUT, _KEPT = range(6)
_HEAD = struct.Struct("<BB")
"""Every record begins with its form and the length of its name, which stands behind the record."""
_PLAIN_FILE = struct.Struct("<BBIqII")
"""Owner, time, size, first block: a file in one piece."""
_PACKED_DIRECTORY = struct.Struct("<BBIqI")
"""Owner, time, place."""
_LINK = struct.Struct("<BBIqH")
"""Owner, time, length of the target, which stands behind the name."""
_FILE = struct.Struct("<BBIqQI")
"""Owner, time, size, number of extents, which stand behind the name."""
_EXTENT = struct.Struct("<IQI")
_OBJECT = struct.Struct("<BBI")
"""Place among the inodes that stay as they are."""
_MOST = 0xFFFFFFFF
_LEVEL = 1
"""Of compression: a record is a fourth of its length then, and takes a tenth longer."""

_Owner = tuple[int, int, int, Mapping[bytes, bytes]]
"""Mode with file type, uid, gid, extended attributes: what many inodes have in common."""


class Records:
    """Makes inodes bytes, and new inodes of them."""

    def __init__(self) -> None:
        self._owners: list[_Owner] = []
        self._owner_numbers: dict[tuple[object, ...], int] = {}
        self._kept: list[Node] = []
        self._kept_numbers: dict[int, int] = {}

    def pack(self, children: Mapping[bytes, Node]) -> bytes:
        """All of `children`; a directory that is not packed away stays the object that it is."""
        return compress(b"".join(self._records(children)), _LEVEL)

    def unpack(self, packed: bytes) -> dict[bytes, Node]:
        """What was packed, as new inodes."""
        return dict(self._nodes(decompress(packed)))

    def _records(self, children: Mapping[bytes, Node]) -> Iterator[bytes]:
        owner_of, plain = self._owner, _PLAIN_FILE.pack
        for name, node in children.items():
            try:
                if node.children is not None:
                    yield self._directory(name, node)
                elif node.links != 1:
                    yield self._object(name, node)
                elif node.whiteout:
                    yield _HEAD.pack(_WHITEOUT, len(name)) + name
                elif node.link:
                    yield (
                        _LINK.pack(_SYMLINK, len(name), owner_of(node), node.mtime_ns, len(node.link))
                        + name
                        + node.link
                    )
                elif _is_plain(node):
                    first = node.extents[0][1] if node.size else 0
                    yield plain(_PLAIN, len(name), owner_of(node), node.mtime_ns, node.size, first) + name
                elif node.kind == S_IFREG:
                    yield self._scattered(name, node)
                else:
                    yield self._object(name, node)
            except struct.error:  # a number that no record holds
                yield self._object(name, node)

    def _directory(self, name: bytes, node: Node) -> bytes:
        if not node.packed:
            return self._object(name, node)
        return _PACKED_DIRECTORY.pack(_DIRECTORY, len(name), self._owner(node), node.mtime_ns, node.packed) + name

    def _scattered(self, name: bytes, node: Node) -> bytes:
        extents = b"".join(_EXTENT.pack(*extent) for extent in node.extents)
        head = _FILE.pack(_SCATTERED, len(name), self._owner(node), node.mtime_ns, node.size, len(node.extents))
        return head + name + extents

    def _object(self, name: bytes, node: Node) -> bytes:
        """Some inodes stay objects: they have several names, or are rare."""
        number = self._kept_numbers.get(id(node))
        if number is None:
            number = self._kept_numbers[id(node)] = len(self._kept)
            self._kept.append(node)
        return _OBJECT.pack(_KEPT, len(name), number) + name

    def _owner(self, node: Node) -> int:
        xattrs = node.xattrs
        key = (node.mode, node.uid, node.gid, *(sorted(xattrs.items()) if xattrs else ()))
        number = self._owner_numbers.get(key)
        if number is None:
            number = self._owner_numbers[key] = len(self._owners)
            self._owners.append((node.mode, node.uid, node.gid, xattrs))
        return number

    def _nodes(self, records: bytes) -> Iterator[tuple[bytes, Node]]:
        at, end, owners = 0, len(records), self._owners
        while at < end:
            form = records[at]
            if form == _PLAIN:
                _, length, owner, mtime, size, first = _PLAIN_FILE.unpack_from(records, at)
                at += _PLAIN_FILE.size
                node = _with_owner(owners[owner], mtime)
                node.size = size
                if size:
                    node.extents = ((0, first, -(-size // BLOCK_SIZE)),)
            elif form == _DIRECTORY:
                _, length, owner, mtime, place = _PACKED_DIRECTORY.unpack_from(records, at)
                at += _PACKED_DIRECTORY.size
                node = _with_owner(owners[owner], mtime)
                node.packed = place
            elif form == _SYMLINK:
                _, length, owner, mtime, size = _LINK.unpack_from(records, at)
                at += _LINK.size
                node = _with_owner(owners[owner], mtime)
                node.link, node.size = records[at + length : at + length + size], size
                yield records[at : at + length], node
                at += length + size
                continue
            elif form == _SCATTERED:
                _, length, owner, mtime, size, count = _FILE.unpack_from(records, at)
                at += _FILE.size
                node = _with_owner(owners[owner], mtime)
                node.size = size
                behind = at + length + count * _EXTENT.size
                node.extents = tuple(_EXTENT.iter_unpack(records[at + length : behind]))
                yield records[at : at + length], node
                at = behind
                continue
            elif form == _WHITEOUT:
                length = records[at + 1]
                at += _HEAD.size
                node = Node(S_IFCHR)
                node.whiteout, node.links = True, 1
            else:
                _, length, number = _OBJECT.unpack_from(records, at)
                at += _OBJECT.size
                node = self._kept[number]
            yield records[at : at + length], node
            at += length


def _is_plain(node: Node) -> bool:
    extents, size = node.extents, node.size
    if node.kind != S_IFREG or size > _MOST:
        return False
    if not size:
        return not extents
    return len(extents) == 1 and extents[0][0] == 0 and extents[0][2] == -(-size // BLOCK_SIZE)


def _with_owner(owner: _Owner, mtime_ns: int) -> Node:
    node = Node(owner[0], owner[1], owner[2], mtime_ns)
    node.xattrs = owner[3]
    node.links = 1
    return node
