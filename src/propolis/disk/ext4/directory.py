"""A directory's blocks: linear entries and the checksum at the end of each block.

Follows Documentation/filesystems/ext4/directory.rst. No hash index: the kernel reads such directories, if more slowly.
"""

from propolis.disk.ext4.checksum import crc32c
from propolis.disk.ext4.node import Node
from propolis.disk.ext4.structs import (
    BLOCK_SIZE,
    EXT4_FT_DIR_CSUM,
    FILE_TYPES,
    S_IFDIR,
    dir_entry,
    dir_entry_tail,
)

_ROOM = BLOCK_SIZE - dir_entry_tail.size


def build(directory: Node, seed: int) -> list[bytes]:
    """The blocks; all inode numbers below are known. `seed` is the directory inode's checksum seed."""
    assert directory.children is not None
    assert directory.parent is not None
    records = [(b".", directory.ino, S_IFDIR), (b"..", directory.parent.ino, S_IFDIR)]
    records += [(name, node.ino, node.kind) for name, node in directory.children.items()]
    blocks: list[bytes] = []
    pending: list[tuple[bytes, int, int]] = []
    used = 0
    for record in records:
        length = _record_length(record[0])
        if used + length > _ROOM:
            blocks.append(_block(pending, used, seed))
            pending, used = [], 0
        pending.append(record)
        used += length
    blocks.append(_block(pending, used, seed))
    return blocks


def _record_length(name: bytes) -> int:
    return dir_entry.size + (len(name) + 3 & ~3)


def _block(records: list[tuple[bytes, int, int]], used: int, seed: int) -> bytes:
    """One block; the last record reaches up to the checksum."""
    parts = []
    last = len(records) - 1
    for index, (name, ino, kind) in enumerate(records):
        length = _record_length(name)
        reach = length + (_ROOM - used if index == last else 0)
        parts.append(
            dir_entry.pack(ino, reach, len(name), FILE_TYPES[kind]) + name.ljust(length - dir_entry.size, b"\0")
        )
    body = b"".join(parts).ljust(_ROOM, b"\0")
    return body + dir_entry_tail.pack(0, dir_entry_tail.size, 0, EXT4_FT_DIR_CSUM, crc32c(seed, body))
