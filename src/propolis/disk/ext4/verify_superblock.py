"""What a superblock tells of a file system, judged: for `verify`. Follows Documentation/filesystems/ext4/super.rst.

After this, sizes and counts are sound: they agree with each other and fit on the disk.
"""

from dataclasses import dataclass
from struct import Struct

from propolis.disk.base import DiskReader
from propolis.disk.checksum import INITIAL, crc32c
from propolis.disk.ext4 import structs

MOST_FAULTS = 100
MOST_INODES = 1 << 24
"""Inodes that have a place in a table which was written to; more are not judged."""
_MOST_GROUPS = 1 << 20

COMPAT_HAS_JOURNAL = 0x4
COMPAT_RESIZE_INODE = 0x10
COMPAT_SPARSE_SUPER2 = 0x200
COMPAT_ORPHAN_FILE = 0x1000
INCOMPAT_RECOVER = 0x4
INCOMPAT_64BIT = 0x80
INCOMPAT_CSUM_SEED = 0x2000
INCOMPAT_LARGEDIR = 0x4000
RO_COMPAT_SPARSE_SUPER = 0x1
RO_COMPAT_METADATA_CSUM = 0x400
_KNOWN = (0x4 | 0x8 | 0x10 | 0x20 | 0x200 | 0x1000, 0x2 | 0x40 | 0x80 | 0x200 | 0x2000 | 0x4000, 0x46B)
_NEEDED = (0, 0x2 | 0x40, 0)
"""compat, incompat and ro_compat."""

_head = Struct("<13I HhHHHH 4I HH I HH 3I 16s 16s 64s")
_SB_RESERVED_GDT_BLOCKS = 0xCE
_SB_LAST_ORPHAN = 0xE8
_SB_DESC_SIZE = 0xFE
_SB_FLAGS = 0x160
_SB_BACKUP_BGS = 0x24C
_SB_CHECKSUM_SEED = 0x270
_SB_ORPHAN_FILE_INUM = 0x280


class Enough(Exception):
    """There are as many faults as are told."""


class Findings:
    """The faults so far."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str]] = []
        """The inode's number, or 0, and what is wrong."""

    def add(self, text: str, ino: int = 0) -> None:
        """Note a fault.

        Raises:
            Enough: no more than this one are wanted.
        """
        self.found.append((ino, text))
        if len(self.found) >= MOST_FAULTS:
            raise Enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """A file system's sizes and places; blocks are counted from the disk's start."""

    block_size: int
    first_block: int
    blocks: int
    groups: int
    blocks_per_group: int
    inodes_per_group: int
    inode_size: int
    first_ino: int
    desc_size: int
    seed: int
    compat: int
    incompat: int
    ro_compat: int
    reserved_gdt_blocks: int
    backup_groups: tuple[int, int]
    free_blocks: int
    free_inodes: int
    hash_seed: bytes
    unsigned_hash: bool
    journal_ino: int
    orphan_file_ino: int

    @property
    def has_checksums(self) -> bool:
        """Whether metadata have checksums."""
        return bool(self.ro_compat & RO_COMPAT_METADATA_CSUM)

    @property
    def inodes(self) -> int:
        """The highest inode number."""
        return self.groups * self.inodes_per_group

    @property
    def table_blocks(self) -> int:
        """Blocks of a group's inode table."""
        return -(-self.inodes_per_group * self.inode_size // self.block_size)

    @property
    def descriptor_blocks(self) -> int:
        """Blocks of group descriptors."""
        return -(-self.groups * self.desc_size // self.block_size)

    def group_range(self, group: int) -> tuple[int, int]:
        """First block of a group, and the first that is not its."""
        start = self.first_block + group * self.blocks_per_group
        return start, min(start + self.blocks_per_group, self.blocks)

    def has_superblock(self, group: int) -> bool:
        """Whether the group begins with a superblock and descriptors."""
        if group == 0:
            return True
        if self.compat & COMPAT_SPARSE_SUPER2:
            return group in self.backup_groups
        return not self.ro_compat & RO_COMPAT_SPARSE_SUPER or group == 1 or _is_power(group)


def _is_power(group: int) -> bool:
    for base in (3, 5, 7):
        power = base
        while power < group:
            power *= base
        if power == group:
            return True
    return False


def judge(disk: DiskReader, findings: Findings) -> Geometry | None:
    """What the superblock says; None where nothing else can be judged by it."""
    if disk.size < structs.SB_OFFSET + structs.SB_SIZE:
        findings.add("the disk is too small for a file system")
        return None
    raw = disk.read(structs.SB_OFFSET, structs.SB_SIZE)
    fields = _head.unpack_from(raw)
    if fields[15] != structs.EXT4_SUPER_MAGIC:
        findings.add("there is no ext4 superblock")
        return None
    compat, incompat, ro_compat = features = fields[28:31]
    if ro_compat & RO_COMPAT_METADATA_CSUM and crc32c(INITIAL, raw[: structs.SB_CHECKSUM]) != _u32(
        raw, structs.SB_CHECKSUM
    ):
        findings.add("superblock: wrong checksum")
    if incompat & INCOMPAT_RECOVER:
        findings.add("the journal holds changes that are not in their places yet; mount the disk once")
        return None
    for name, has, known, needed in zip(("compat", "incompat", "ro_compat"), features, _KNOWN, _NEEDED, strict=True):
        if has & ~known or needed & ~has:
            findings.add(f"superblock: features that cannot be judged: {name} {has & ~known | needed & ~has:#x}")
            return None
    geometry = _geometry(raw, fields, disk.size, findings)
    if geometry is None:
        return None
    if fields[16] & 3 != structs.EXT4_VALID_FS:
        findings.add("superblock: the file system was not unmounted, or has errors")
    if _u32(raw, _SB_LAST_ORPHAN):
        findings.add("superblock: there are files that were removed while in use; mount the disk once")
    if bool(compat & COMPAT_HAS_JOURNAL) != bool(geometry.journal_ino):
        findings.add("superblock: the journal's inode and the feature do not agree")
    return geometry


def _geometry(raw: bytes, fields: tuple[int, ...], disk_size: int, findings: Findings) -> Geometry | None:
    log, first_block, per_group, inodes_per_group = fields[6], fields[5], fields[8], fields[10]
    high = structs.sb_high.unpack_from(raw, structs.SB_BLOCKS_HI)
    is_64bit = bool(fields[29] & INCOMPAT_64BIT)
    blocks, reserved, free = (
        low | (upper << 32 if is_64bit else 0) for low, upper in zip(fields[1:4], high, strict=True)
    )
    desc_size = _u16(raw, _SB_DESC_SIZE)
    inode_size, first_ino = fields[26], fields[25]
    block_size = 1024 << min(log, 6)
    wrong = [
        name
        for name, right in (
            ("block size", log <= 2 and fields[7] == log),
            ("first block", first_block == (log == 0)),
            ("revision", fields[22] == structs.EXT4_DYNAMIC_REV),
            ("blocks in a group", fields[9] == per_group and 256 <= per_group <= 8 * block_size and not per_group % 8),
            ("inode size", inode_size in (128, 256, 512, 1024) and inode_size <= block_size),
            ("inodes in a group", 0 < inodes_per_group <= 8 * block_size and not inodes_per_group % 8),
            ("first inode", structs.EXT4_GOOD_OLD_FIRST_INO <= first_ino < fields[0]),
            ("size", first_block < blocks <= disk_size // block_size),
            ("reserved blocks", reserved <= blocks),
            ("descriptor size", desc_size == 64 if is_64bit else desc_size in (0, 32)),
            ("group", fields[27] == 0),
            ("checksum type", not fields[30] & RO_COMPAT_METADATA_CSUM or raw[structs.SB_CHECKSUM_TYPE] == 1),
        )
        if not right
    ]
    groups = -(-(blocks - first_block) // per_group) if not wrong else 0
    if not wrong and fields[0] != groups * inodes_per_group:
        wrong.append("number of inodes")
    if not wrong and groups > _MOST_GROUPS:
        wrong.append("number of groups")
    if wrong:
        findings.add(f"superblock: wrong {', '.join(wrong)}")
        return None
    seed = _u32(raw, _SB_CHECKSUM_SEED) if fields[29] & INCOMPAT_CSUM_SEED else crc32c(INITIAL, raw[0x68:0x78])
    return Geometry(
        block_size=block_size,
        first_block=first_block,
        blocks=blocks,
        groups=groups,
        blocks_per_group=per_group,
        inodes_per_group=inodes_per_group,
        inode_size=inode_size,
        first_ino=first_ino,
        desc_size=64 if is_64bit else 32,
        seed=seed,
        compat=fields[28],
        incompat=fields[29],
        ro_compat=fields[30],
        reserved_gdt_blocks=_u16(raw, _SB_RESERVED_GDT_BLOCKS) if fields[28] & COMPAT_RESIZE_INODE else 0,
        backup_groups=(_u32(raw, _SB_BACKUP_BGS), _u32(raw, _SB_BACKUP_BGS + 4)),
        free_blocks=free,
        free_inodes=fields[4],
        hash_seed=raw[structs.SB_HASH_SEED : structs.SB_HASH_SEED + 16],
        unsigned_hash=bool(_u32(raw, _SB_FLAGS) & structs.EXT2_FLAGS_UNSIGNED_HASH),
        journal_ino=_u32(raw, structs.SB_JOURNAL_INUM),
        orphan_file_ino=_u32(raw, _SB_ORPHAN_FILE_INUM) if fields[28] & COMPAT_ORPHAN_FILE else 0,
    )


def _u32(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[at : at + 4], "little")


def _u16(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[at : at + 2], "little")
