"""The journal of a file system that nobody has mounted yet: one block, its superblock, as mke2fs writes it.

Follows the kernel's Documentation/filesystems/ext4/journal.rst; all big-endian, unlike the rest of ext4. Pure: knows
neither where the journal lies nor who its inode is.

No features are set: the kernel adds what it wants when it mounts for writing (checksums, JBD2_FEATURE_INCOMPAT_CSUM_V3,
where the file system has metadata_csum; JBD2_FEATURE_INCOMPAT_64BIT where that has 64bit) and when it first revokes a
block (JBD2_FEATURE_INCOMPAT_REVOKE). Without the checksum features the block has no checksum.
"""

from struct import Struct

from propolis.disk.ext4.structs import BLOCK_SIZE

JBD2_MAGIC_NUMBER = 0xC03B3998
JBD2_SUPERBLOCK_V2 = 4

# h_magic h_blocktype h_sequence | blocksize maxlen first | sequence start | errno | feature_compat feature_incompat
# feature_ro_compat | uuid nr_users
superblock_head = Struct(">3I 3I 2I I 3I 16s I")

_FIRST = 1
"""The first block of the log: the one behind the superblock."""
_SEQUENCE = 1
"""The identifier that the first transaction will have."""

_LEAST_BLOCKS = 1024
"""What kernel and e2fsck demand of a journal."""
_MOST_BLOCKS = 1 << 18
_SIZES = (
    (1 << 15, _LEAST_BLOCKS),
    (1 << 18, 1 << 12),
    (1 << 19, 1 << 13),
    (1 << 22, 1 << 14),
    (1 << 23, 1 << 15),
    (1 << 24, 1 << 16),
    (1 << 25, 1 << 17),
)
"""File systems of fewer blocks than the first number have a journal of as many blocks as the second."""


def blocks_for(size: int) -> int:
    """How many blocks the journal of a file system of `size` bytes has: as many as mke2fs gives it, 4 MiB to 1 GiB.

    mke2fs gives none below 8 MiB; here such a file system has the smallest journal.
    """
    for below, blocks in _SIZES:
        if size // BLOCK_SIZE < below:
            return blocks
    return _MOST_BLOCKS


def superblock(blocks: int, uuid: bytes) -> bytes:
    """The first block of an empty journal of `blocks` blocks; what follows it may be anything, so also a hole.

    `uuid` is the file system's. An internal journal has a single user and does not list it.
    """
    return superblock_head.pack(
        JBD2_MAGIC_NUMBER, JBD2_SUPERBLOCK_V2, 0,
        BLOCK_SIZE, blocks, _FIRST,
        _SEQUENCE, 0,
        0,
        0, 0, 0,
        uuid, 1,
    ).ljust(BLOCK_SIZE, b"\0")  # fmt: skip
