"""A directory's blocks: linear entries, found through an index of hashed names where one block does not hold them.

Follows Documentation/filesystems/ext4/directory.rst, with checksums at the end of each block.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from zlib import compress, decompress

from propolis.disk.checksum import crc32c
from propolis.disk.ext4 import half_md4
from propolis.disk.ext4.order import Opened
from propolis.disk.ext4.structs import (
    BLOCK_SIZE,
    DX_HASH_HALF_MD4,
    EXT4_FT_DIR_CSUM,
    FILE_TYPES,
    S_IFDIR,
    dir_entry,
    dir_entry_tail,
    dx_countlimit,
    dx_entry,
    dx_root_info,
    dx_tail,
)

_ROOM = BLOCK_SIZE - dir_entry_tail.size
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
_DOTS = 2 * 12
"""Bytes of the entries `.` and `..`."""
_ROOT_HEAD = _DOTS + dx_root_info.size
_NODE_HEAD = dir_entry.size
_IN_ROOT = (BLOCK_SIZE - _ROOT_HEAD - dx_tail.size) // dx_entry.size
_IN_NODE = (BLOCK_SIZE - _NODE_HEAD - dx_tail.size) // dx_entry.size

_Record = tuple[int, bytes, int]
"""Inode number, name, file type."""
_Hashed = tuple[int, int, _Record]
"""Major hash, minor hash, record."""
_Group = list[_Hashed]
"""What one block holds."""
_Index = list[tuple[int, int]]
"""From which hash on, in which block."""

MOST_AT_ONCE = 1 << 16
"""Names that are sorted at once; more are parted by their hashes first."""
_APART = 256
_HASHED_AT_ONCE = 1 << 13
_COMPRESSED_AT_ONCE = 1 << 14
_apart = struct.Struct("<IIIBB")
"""Hashes, inode number, file type, length of the name that follows."""
_pack_apart = _apart.pack
_pack = dir_entry.pack


def build(directory: Opened, seed: int, hash_seed: bytes) -> tuple[Iterable[bytes], bool]:
    """The blocks, and whether they have an index.

    `seed` is the directory inode's checksum seed, `hash_seed` the superblock's.
    """
    dots: list[_Record] = [
        (directory.ino, b".", FILE_TYPES[S_IFDIR >> 12]),
        (directory.parent, b"..", FILE_TYPES[S_IFDIR >> 12]),
    ]
    groups: Iterable[_Group]
    if len(directory.children) > MOST_AT_ONCE:
        groups = _Apart(_records(directory), hash_seed)
    else:
        records = [(node.ino, name, FILE_TYPES[node.mode >> 12]) for name, node in directory.children.items()]
        body, fitting = _body(dots + records)
        if fitting == len(dots) + len(records):
            return [_sealed(body, seed)], False
        names = half_md4.hashes([name for _, name, _ in records], hash_seed)
        ordered = sorted((major, minor, record) for (major, minor), record in zip(names, records, strict=True))
        groups = list(_grouped(ordered))
    indexed = _indexed(dots, groups, seed)
    if indexed is not None:
        return indexed, True
    return _leaves(_grouped((0, 0, record) for record in chain(dots, _records(directory))), seed), False


def _records(directory: Opened) -> Iterator[_Record]:
    return ((node.ino, name, FILE_TYPES[node.mode >> 12]) for name, node in directory.children.items())


class _Apart:
    """All records in the order of their hashes, where they are too many to be sorted at once."""

    def __init__(self, records: Iterator[_Record], hash_seed: bytes) -> None:
        """Part them by their highest bits; in memory are compressed bytes."""
        self._parts: list[list[bytes]] = [[] for _ in range(_APART)]
        begun = [bytearray() for _ in range(_APART)]
        while some := list(islice(records, _HASHED_AT_ONCE)):
            names = half_md4.hashes([name for _, name, _ in some], hash_seed)
            for (major, minor), (ino, name, kind) in zip(names, some, strict=True):
                begun[major >> 24] += _pack_apart(major, minor, ino, kind, len(name)) + name
            for number, part in enumerate(begun):
                if len(part) > _COMPRESSED_AT_ONCE:
                    self._parts[number].append(compress(part, 1))
                    part.clear()
        for number, part in enumerate(begun):
            self._parts[number].append(compress(part, 1))

    def __iter__(self) -> Iterator[_Group]:
        return _grouped(self._ordered())

    def _ordered(self) -> Iterator[_Hashed]:
        for part in self._parts:
            yield from sorted(chain.from_iterable([_unpacked(decompress(packed)) for packed in part]))


def _unpacked(records: bytes) -> Iterator[_Hashed]:
    at = 0
    while at < len(records):
        major, minor, ino, kind, length = _apart.unpack_from(records, at)
        at += _apart.size
        yield major, minor, (ino, records[at : at + length], kind)
        at += length


def _grouped(ordered: Iterable[_Hashed]) -> Iterator[_Group]:
    """What each block holds, which is as much as fits."""
    group: _Group = []
    room = _ROOM
    for hashed in ordered:
        needed = len(hashed[2][1]) + 11 & ~3
        if needed > room:
            yield group
            group, room = [], _ROOM
        group.append(hashed)
        room -= needed
    yield group


def _body(records: Sequence[_Record]) -> tuple[bytes, int]:
    """One block's records, the last of which reaches up to the checksum; and how many fit."""
    parts: list[bytes] = []
    room = _ROOM
    count = 0
    ino, name, kind, length = 0, b"", 0, 0
    for next_ino, next_name, next_kind in records:
        needed = len(next_name) + 11 & ~3
        if needed > room:
            break
        if count:
            parts.append(_pack(ino, length, len(name), kind) + name + _PADDING[len(name) & 3])
        ino, name, kind, length = next_ino, next_name, next_kind, needed
        room -= needed
        count += 1
    parts.append(_pack(ino, length + room, len(name), kind) + name)
    return b"".join(parts).ljust(_ROOM, b"\0"), count


def _sealed(body: bytes, seed: int) -> bytes:
    """A block of entries with its checksum."""
    return body + dir_entry_tail.pack(0, dir_entry_tail.size, 0, EXT4_FT_DIR_CSUM, crc32c(seed, body))


def _indexed(dots: Sequence[_Record], groups: Iterable[_Group], seed: int) -> Iterator[bytes] | None:
    """Root, nodes and leaves of the index; None for more leaves than two levels hold.

    A name is looked up through the index alone, so that a leaf holds exactly the hashes that the index says.
    """
    first = list(_first_hashes(groups))
    if len(first) > _IN_ROOT * _IN_NODE:
        return None
    if len(first) <= _IN_ROOT:
        head = [_root(dots, [(at, 1 + number) for number, at in enumerate(first)], 0, seed)]
    else:
        nodes = -(-len(first) // _IN_NODE)
        index = [(at, 1 + nodes + number) for number, at in enumerate(first)]
        parts = [index[start : start + _IN_NODE] for start in range(0, len(index), _IN_NODE)]
        head = [_root(dots, [(part[0][0], 1 + number) for number, part in enumerate(parts)], 1, seed)]
        head += [_node(part, seed) for part in parts]
    return chain(head, _leaves(groups, seed))


def _first_hashes(groups: Iterable[_Group]) -> Iterator[int]:
    """From which hash on each leaf is responsible."""
    last = None
    for group in groups:
        hash_ = group[0][0]
        # an odd value says that names of this hash begin in the block before
        yield hash_ | 1 if hash_ == last else hash_
        last = group[-1][0]


def _leaves(groups: Iterable[_Group], seed: int) -> Iterator[bytes]:
    """Blocks of entries."""
    for group in groups:
        yield _sealed(_body([record for _, _, record in group])[0], seed)


def _root(dots: Sequence[_Record], index: _Index, levels: int, seed: int) -> bytes:
    (own, *_), (above, *_) = dots
    kind = dots[0][2]
    head = _pack(own, 12, 1, kind) + b".\0\0\0" + _pack(above, BLOCK_SIZE - 12, 2, kind) + b"..\0\0"
    return _with_index(
        head + dx_root_info.pack(0, DX_HASH_HALF_MD4, dx_root_info.size, levels, 0), index, _IN_ROOT, seed
    )


def _node(index: _Index, seed: int) -> bytes:
    return _with_index(_pack(0, BLOCK_SIZE, 0, 0), index, _IN_NODE, seed)


def _with_index(head: bytes, index: _Index, limit: int, seed: int) -> bytes:
    """A block of the index: its first entry needs no hash, and has count and limit in that place."""
    used = head + dx_countlimit.pack(limit, len(index), index[0][1])
    used += b"".join(dx_entry.pack(*entry) for entry in index[1:])
    checksum = crc32c(crc32c(seed, used), bytes(dx_tail.size))
    return used.ljust(len(head) + limit * dx_entry.size, b"\0") + dx_tail.pack(0, checksum)
