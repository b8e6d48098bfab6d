"""The superblock, and the identifiers in it: derived from a key, so that the same content has the same ones.

Follows Documentation/filesystems/ext4/super.rst.
"""

import hashlib
from dataclasses import dataclass
from uuid import UUID

from propolis.disk.checksum import INITIAL, crc32c
from propolis.disk.ext4 import structs
from propolis.disk.ext4.plan import Layout
from propolis.disk.ext4.structs import BLOCK_SIZE, BLOCKS_PER_GROUP, EXT4_GOOD_OLD_FIRST_INO, INODE_SIZE, SB_OFFSET

_COMPAT = (
    structs.EXT4_FEATURE_COMPAT_EXT_ATTR
    | structs.EXT4_FEATURE_COMPAT_DIR_INDEX
    | structs.EXT4_FEATURE_COMPAT_SPARSE_SUPER2
)
_INCOMPAT = (
    structs.EXT4_FEATURE_INCOMPAT_FILETYPE
    | structs.EXT4_FEATURE_INCOMPAT_EXTENTS
    | structs.EXT4_FEATURE_INCOMPAT_FLEX_BG
)
_RO_COMPAT = (
    structs.EXT4_FEATURE_RO_COMPAT_LARGE_FILE
    | structs.EXT4_FEATURE_RO_COMPAT_HUGE_FILE
    | structs.EXT4_FEATURE_RO_COMPAT_DIR_NLINK
    | structs.EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE
    | structs.EXT4_FEATURE_RO_COMPAT_METADATA_CSUM
)
_LOG_GROUPS_PER_FLEX = 31
"""One flexible group over everything: bitmaps and tables lie together wherever they are."""
_NO_CHECK = -1
_JOURNAL_BACKUP = 1
_LARGEST_LOG_BLOCK_SIZE = 6


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a file system is."""

    uuid: bytes
    hash_seed: bytes
    label: bytes = b""

    @property
    def seed(self) -> int:
        """The checksum that all others start from."""
        return crc32c(INITIAL, self.uuid)


def identity(key: str, label: str = "") -> Identity:
    """Identifiers for a file system that is told from others by `key`."""
    digest = bytearray(hashlib.sha256(b"propolis ext4 " + key.encode()).digest())
    digest[6] = digest[6] & 0x0F | 0x80  # RFC 9562: version 8, made by an algorithm of our own
    digest[8] = digest[8] & 0x3F | 0x80
    return Identity(bytes(digest[:16]), bytes(digest[16:32]), label.encode())


def build(layout: Layout, who: Identity, free_blocks: int, free_inodes: int, journal_backup: bytes = b"") -> bytes:
    """The disk's first block. `journal_backup` is i_block and size of the journal's inode, if there is one."""
    block = bytearray(BLOCK_SIZE)
    structs.super_block_head.pack_into(
        block, SB_OFFSET,
        layout.groups * layout.inodes_per_group,
        layout.blocks & 0xFFFFFFFF, 0, free_blocks & 0xFFFFFFFF, free_inodes, 0,
        structs.LOG_BLOCK_SIZE, structs.LOG_BLOCK_SIZE, BLOCKS_PER_GROUP, BLOCKS_PER_GROUP,
        layout.inodes_per_group, 0, 0,
        0, _NO_CHECK, structs.EXT4_SUPER_MAGIC, structs.EXT4_VALID_FS, 1, 0,
        0, 0, 0, structs.EXT4_DYNAMIC_REV, 0, 0, EXT4_GOOD_OLD_FIRST_INO, INODE_SIZE, 0,
        _COMPAT | (structs.EXT4_FEATURE_COMPAT_HAS_JOURNAL if journal_backup else 0),
        _INCOMPAT | (structs.EXT4_FEATURE_INCOMPAT_64BIT if layout.is_64bit else 0),
        _RO_COMPAT, who.uuid, who.label, b"",
    )  # fmt: skip
    if journal_backup:
        structs.u32.pack_into(block, SB_OFFSET + structs.SB_JOURNAL_INUM, structs.EXT4_JOURNAL_INO)
        start = SB_OFFSET + structs.SB_JNL_BLOCKS
        block[start : start + len(journal_backup)] = journal_backup
    structs.sb_hash.pack_into(
        block, SB_OFFSET + structs.SB_HASH_SEED,
        who.hash_seed, structs.DX_HASH_HALF_MD4, _JOURNAL_BACKUP if journal_backup else 0,
        structs.DESC_SIZE_64 if layout.is_64bit else 0,
    )  # fmt: skip
    structs.sb_high.pack_into(block, SB_OFFSET + structs.SB_BLOCKS_HI, layout.blocks >> 32, 0, free_blocks >> 32)
    structs.sb_extra_isize.pack_into(
        block, SB_OFFSET + structs.SB_MIN_EXTRA_ISIZE,
        structs.EXTRA_ISIZE, structs.EXTRA_ISIZE, structs.EXT2_FLAGS_UNSIGNED_HASH,
    )  # fmt: skip
    block[SB_OFFSET + structs.SB_LOG_GROUPS_PER_FLEX] = _LOG_GROUPS_PER_FLEX
    block[SB_OFFSET + structs.SB_CHECKSUM_TYPE] = structs.CHECKSUM_TYPE_CRC32C
    checksum = crc32c(INITIAL, bytes(block[SB_OFFSET : SB_OFFSET + structs.SB_CHECKSUM]))
    structs.u32.pack_into(block, SB_OFFSET + structs.SB_CHECKSUM, checksum)
    return bytes(block)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystemFacts:
    """What a superblock says; sizes in bytes."""

    uuid: str
    label: str
    size: int
    free: int
    inodes: int
    free_inodes: int
    features: tuple[str, ...]
    """By the names that e2fsprogs has for them; a number where they have none here."""


_FEATURE_NAMES = (
    {0x4: "has_journal", 0x8: "ext_attr", 0x10: "resize_inode", 0x20: "dir_index", 0x200: "sparse_super2"}
    | {0x400: "fast_commit", 0x800: "stable_inodes", 0x1000: "orphan_file"},
    {0x2: "filetype", 0x4: "needs_recovery", 0x10: "meta_bg", 0x40: "extent", 0x80: "64bit", 0x100: "mmp"}
    | {0x200: "flex_bg", 0x400: "ea_inode", 0x2000: "metadata_csum_seed", 0x4000: "large_dir"}
    | {0x8000: "inline_data", 0x10000: "encrypt", 0x20000: "casefold"},
    {0x1: "sparse_super", 0x2: "large_file", 0x8: "huge_file", 0x10: "uninit_bg", 0x20: "dir_nlink"}
    | {0x40: "extra_isize", 0x100: "quota", 0x200: "bigalloc", 0x400: "metadata_csum", 0x1000: "read-only"}
    | {0x2000: "project", 0x8000: "verity", 0x10000: "orphan_present"},
)


def facts(head: bytes) -> FileSystemFacts | None:
    """What the superblock in a disk's first block says; None where there is none."""
    if len(head) < SB_OFFSET + structs.SB_SIZE:
        return None
    fields = structs.super_block_head.unpack_from(head, SB_OFFSET)
    if fields[15] != structs.EXT4_SUPER_MAGIC or fields[6] > _LARGEST_LOG_BLOCK_SIZE:
        return None
    block = 1024 << fields[6]
    high = structs.sb_high.unpack_from(head, SB_OFFSET + structs.SB_BLOCKS_HI)
    high = high if fields[29] & structs.EXT4_FEATURE_INCOMPAT_64BIT else (0, 0, 0)
    return FileSystemFacts(
        uuid=str(UUID(bytes=fields[31])),
        label=fields[32].rstrip(b"\0").decode(errors="replace"),
        size=(high[0] << 32 | fields[1]) * block,
        free=(high[2] << 32 | fields[3]) * block,
        inodes=fields[0],
        free_inodes=fields[4],
        features=tuple(
            names.get(1 << bit, f"{1 << bit:#x}")
            for names, bits in zip(_FEATURE_NAMES, fields[28:31], strict=True)
            for bit in range(32)
            if bits >> bit & 1
        ),
    )


def recorded_size(head: bytes) -> int | None:
    """The size in bytes that the superblock in a disk's first block tells; None where no valid superblock is.

    Valid as far as magic and checksum tell.
    """
    if len(head) < SB_OFFSET + structs.SB_SIZE:
        return None
    fields = structs.super_block_head.unpack_from(head, SB_OFFSET)
    checksum = crc32c(INITIAL, head[SB_OFFSET : SB_OFFSET + structs.SB_CHECKSUM])
    stored = structs.u32.unpack_from(head, SB_OFFSET + structs.SB_CHECKSUM)[0]
    if fields[15] != structs.EXT4_SUPER_MAGIC or stored != checksum:
        return None
    high = structs.sb_high.unpack_from(head, SB_OFFSET + structs.SB_BLOCKS_HI)[0]
    return (int(high) << 32 | int(fields[1])) * BLOCK_SIZE
