"""A directory's blocks: linear entries, found through an index of hashed names where one block does not hold them.

Follows Documentation/filesystems/ext4/directory.rst, with checksums at the end of each block.
"""

from collections.abc import Sequence

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
_Index = list[tuple[int, int]]
"""From which hash on, in which block."""

_pack = dir_entry.pack


def build(directory: Opened, seed: int, hash_seed: bytes) -> tuple[list[bytes], bool]:
    """The blocks, and whether they have an index.

    `seed` is the directory inode's checksum seed, `hash_seed` the superblock's.
    """
    dots: list[_Record] = [
        (directory.ino, b".", FILE_TYPES[S_IFDIR >> 12]),
        (directory.parent, b"..", FILE_TYPES[S_IFDIR >> 12]),
    ]
    records = [(node.ino, name, FILE_TYPES[node.mode >> 12]) for name, node in directory.children.items()]
    body, fitting = _body(dots + records)
    if fitting == len(dots) + len(records):
        return [_sealed(body, seed)], False
    indexed = _indexed(dots, records, seed, hash_seed)
    if indexed is not None:
        return indexed, True
    return _linear(dots + records, seed), False


def _linear(records: Sequence[_Record], seed: int) -> list[bytes]:
    blocks = []
    at = 0
    while at < len(records):
        body, fitting = _body(records, at)
        blocks.append(_sealed(body, seed))
        at += fitting
    return blocks


def _body(records: Sequence[_Record], start: int = 0) -> tuple[bytes, int]:
    """One block's records from `start` on, the last of which reaches up to the checksum; and how many fit."""
    parts: list[bytes] = []
    room = _ROOM
    count = 0
    ino, name, kind, length = 0, b"", 0, 0
    for index in range(start, len(records)):
        next_ino, next_name, next_kind = records[index]
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


def _indexed(dots: Sequence[_Record], records: Sequence[_Record], seed: int, hash_seed: bytes) -> list[bytes] | None:
    """Root, nodes and leaves of the index; None for more leaves than two levels hold.

    A name is looked up through the index alone, so that a leaf holds exactly the hashes that the index says.
    """
    hashes = half_md4.hashes([name for _, name, _ in records], hash_seed)
    ordered = sorted((major, minor, record) for (major, minor), record in zip(hashes, records, strict=True))
    leaves, first = _leaves(ordered, seed)
    if len(leaves) > _IN_ROOT * _IN_NODE:
        return None
    if len(leaves) <= _IN_ROOT:
        return [_root(dots, [(at, 1 + number) for number, at in enumerate(first)], 0, seed), *leaves]
    nodes = -(-len(leaves) // _IN_NODE)
    index = [(at, 1 + nodes + number) for number, at in enumerate(first)]
    parts = [index[start : start + _IN_NODE] for start in range(0, len(index), _IN_NODE)]
    root = _root(dots, [(part[0][0], 1 + number) for number, part in enumerate(parts)], 1, seed)
    return [root, *(_node(part, seed) for part in parts), *leaves]


def _leaves(ordered: Sequence[_Hashed], seed: int) -> tuple[list[bytes], list[int]]:
    """Blocks of entries in the order of their hashes, and from which hash on each is responsible."""
    records = [record for _, _, record in ordered]
    blocks, first = [], []
    at = 0
    while at < len(records):
        # an odd value says that names of this hash begin in the block before
        hash_ = ordered[at][0]
        first.append(hash_ | 1 if at and ordered[at - 1][0] == hash_ else hash_)
        body, fitting = _body(records, at)
        blocks.append(_sealed(body, seed))
        at += fitting
    return blocks, first


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
