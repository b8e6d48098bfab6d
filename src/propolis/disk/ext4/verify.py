"""Judges an ext4 file system by its own checksums and structure, without changing it; it may be anybody's, and hostile.

Finds what `e2fsck -fn` finds, in file systems with extents and 4 KiB or smaller blocks, as we and mke2fs make them; of
others it says that it cannot judge them. What the journal holds is not looked at. Passes as e2fsck has them: superblock
and descriptors, inodes (`verify_inodes`), directories (`verify_directories`), links, bitmaps.

Memory: a bit for each block of groups that are in use, some 200 bytes for each inode in use.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from propolis.disk.base import DiskReader
from propolis.disk.ext4 import structs, verify_superblock
from propolis.disk.ext4.checksum import crc32c
from propolis.disk.ext4.node import shown
from propolis.disk.ext4.verify_directories import DirectoryJudge
from propolis.disk.ext4.verify_inodes import BlockMap, InodeJudge
from propolis.disk.ext4.verify_superblock import MOST_FAULTS, MOST_INODES, Enough, Findings, Geometry
from propolis.errors import DiskError

__all__ = ["MOST_FAULTS", "faults"]

_KNOWN_FLAGS = structs.EXT4_BG_INODE_UNINIT | structs.EXT4_BG_BLOCK_UNINIT | structs.EXT4_BG_INODE_ZEROED
_DEEPEST = 200
"""Directories of a path that are told."""


@dataclass(frozen=True, slots=True)
class _Group:
    """A group's descriptor."""

    block_bitmap: int
    inode_bitmap: int
    inode_table: int
    free_blocks: int
    free_inodes: int
    directories: int
    flags: int
    block_checksum: int
    inode_checksum: int
    unused_inodes: int


def faults(disk: DiskReader) -> Iterator[str]:
    """What is wrong with the file system on `disk`, one line each, at most MOST_FAULTS; nothing if it is sound.

    Raises:
        DiskError: the disk itself cannot be read.
    """
    findings = Findings()
    directories = None
    try:
        geometry = verify_superblock.judge(disk, findings)
        if geometry is not None:
            judge = _Judge(disk, geometry, findings)
            groups = judge.groups()
            inodes = judge.inodes(groups)
            directories = DirectoryJudge(disk, geometry, inodes.modes, findings)
            for ino, directory in inodes.directories.items():
                directories.judge(ino, directory)
            judge.links(inodes, directories)
            judge.bitmaps(groups, inodes)
    except Enough:
        pass
    for ino, text in findings.found:
        yield f"inode {ino}{_path(ino, directories)}: {text}" if ino else text


def _path(ino: int, directories: DirectoryJudge | None) -> str:
    """A path of the inode, for a message; empty if it is not known."""
    if ino == structs.EXT4_ROOT_INO:
        return " (/)"
    names: list[bytes] = []
    while directories is not None and ino in directories.names and len(names) < _DEEPEST:
        ino, name = directories.names[ino]
        names.append(name)
    return f" ({shown(b'/'.join(reversed(names)))})" if names else ""


class _Judge:
    """The passes over what belongs to the whole file system."""

    def __init__(self, disk: DiskReader, geometry: Geometry, findings: Findings) -> None:
        self._disk = disk
        self._geometry = geometry
        self._add = findings.add
        self._used = BlockMap(geometry)
        self._own: dict[int, int] = {}
        """The blocks in use before any inode is looked at."""

    def groups(self) -> list[_Group]:
        """Judge the descriptors, and mark all places that they and the superblock's copies take."""
        geometry = self._geometry
        size = geometry.desc_size
        start = (geometry.first_block + 1) * geometry.block_size
        if start + geometry.groups * size > geometry.blocks * geometry.block_size:
            self._add("the file system is too small for its descriptors")
            return []
        table = self._disk.read(start, geometry.groups * size)
        groups = [self._group(number, table[number * size : (number + 1) * size]) for number in range(geometry.groups)]
        head = 1 + geometry.descriptor_blocks + geometry.reserved_gdt_blocks
        for number in range(geometry.groups):
            if geometry.has_superblock(number):
                self._take(number, "descriptors", geometry.group_range(number)[0], head)
        for number, group in enumerate(groups):
            self._take(number, "block bitmap", group.block_bitmap, 1)
            self._take(number, "inode bitmap", group.inode_bitmap, 1)
            self._take(number, "inode table", group.inode_table, geometry.table_blocks)
        self._own = dict(self._used.groups)
        if sum(geometry.inodes_per_group - group.unused_inodes for group in groups) > MOST_INODES:
            self._add("there are more inodes than can be judged")
            return []
        return groups

    def _take(self, number: int, what: str, start: int, count: int) -> None:
        if not self._used.holds(start, count):
            self._add(f"group {number}: the {what} does not lie in the file system")
            raise Enough  # nothing that follows would mean anything
        if not self._used.take(start, count):
            self._add(f"group {number}: the {what} lies where something else lies")
            raise Enough

    def _group(self, number: int, raw: bytes) -> _Group:
        low = structs.group_desc.unpack_from(raw)
        at = structs.GROUP_DESC_CHECKSUM
        high = structs.group_desc_high.unpack_from(raw, len(raw) - 32) if len(raw) > 32 else (0,) * 11
        geometry = self._geometry
        if geometry.has_checksums:
            blank = number.to_bytes(4, "little") + raw[:at] + b"\0\0" + raw[at + 2 :]
            if crc32c(geometry.seed, blank) & 0xFFFF != low[12]:
                self._add(f"group {number}: wrong checksum of its descriptor")
        uninitialised = low[6] & structs.EXT4_BG_INODE_UNINIT
        group = _Group(
            low[0] | high[0] << 32,
            low[1] | high[1] << 32,
            low[2] | high[2] << 32,
            low[3] | high[3] << 16,
            low[4] | high[4] << 16,
            low[5] | high[5] << 16,
            low[6],
            low[8] | high[8] << 16,
            low[9] | high[9] << 16,
            geometry.inodes_per_group if uninitialised else low[11] | high[6] << 16,
        )
        if group.flags & ~_KNOWN_FLAGS or group.unused_inodes > geometry.inodes_per_group:
            self._add(f"group {number}: a damaged descriptor")
            raise Enough
        return group

    def inodes(self, groups: list[_Group]) -> InodeJudge:
        """Judge all inodes."""
        geometry = self._geometry
        inodes = InodeJudge(self._disk, geometry, self._used, Findings_of(self._add))
        return inodes
