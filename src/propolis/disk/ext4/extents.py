"""A file's extents as the tree that i_block roots. Pure.

Follows Documentation/filesystems/ext4/ifork.rst, with checksums at the end of each block.
"""

from collections.abc import Iterator, Sequence

from propolis.disk.checksum import crc32c
from propolis.disk.ext4.node import Extent
from propolis.disk.ext4.structs import (
    BLOCK_SIZE,
    EXT_INIT_MAX_LEN,
    EXT_MAGIC,
    EXTENTS_IN_BLOCK,
    EXTENTS_IN_INODE,
    extent,
    extent_header,
    extent_idx,
    u32,
)


def split(extents: Sequence[Extent]) -> list[Extent]:
    """The same extents in pieces that one structure can tell."""
    return [
        (logical + offset, physical + offset, min(EXT_INIT_MAX_LEN, count - offset))
        for logical, physical, count in extents
        for offset in range(0, count, EXT_INIT_MAX_LEN)
    ]


def root(extents: Sequence[Extent]) -> bytes:
    """i_block of a file whose split extents are few enough to need no block."""
    head = extent_header.pack(EXT_MAGIC, len(extents), EXTENTS_IN_INODE, 0, 0)
    return head + b"".join(_record(*item) for item in extents)


def build(extents: Sequence[Extent], first_block: int, seed: int) -> tuple[bytes, list[bytes]]:
    """i_block, and the tree's blocks, which lie at `first_block` and after; `seed` is the inode's checksum seed."""
    level = [(item[0], _record(*item)) for item in extents]
    blocks: list[bytes] = []
    depth = 0
    while len(level) > EXTENTS_IN_INODE:
        above = []
        for group in _groups(level):
            number = first_block + len(blocks)
            blocks.append(_block(group, depth, seed))
            above.append((group[0][0], extent_idx.pack(group[0][0], number & 0xFFFFFFFF, number >> 32, 0)))
        level = above
        depth += 1
    head = extent_header.pack(EXT_MAGIC, len(level), EXTENTS_IN_INODE, depth, 0)
    return head + b"".join(record for _, record in level), blocks


def _record(logical: int, physical: int, count: int) -> bytes:
    return extent.pack(logical, count, physical >> 32, physical & 0xFFFFFFFF)


def _groups(level: Sequence[tuple[int, bytes]]) -> Iterator[Sequence[tuple[int, bytes]]]:
    for start in range(0, len(level), EXTENTS_IN_BLOCK):
        yield level[start : start + EXTENTS_IN_BLOCK]


def _block(group: Sequence[tuple[int, bytes]], depth: int, seed: int) -> bytes:
    head = extent_header.pack(EXT_MAGIC, len(group), EXTENTS_IN_BLOCK, depth, 0)
    body = (head + b"".join(record for _, record in group)).ljust(BLOCK_SIZE - u32.size, b"\0")
    return body + u32.pack(crc32c(seed, body))
