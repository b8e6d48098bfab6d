"""Judges an ext4 file system by its own checksums and structure, without changing it; it may be anybody's, and hostile.

Finds what `e2fsck -fn` finds, in file systems with extents and 4 KiB or smaller blocks, as we and mke2fs make them; of
others it says that it cannot judge them. What the journal holds is not looked at. Passes as e2fsck has them: superblock
and descriptors, inodes (`verify_inodes`), directories (`verify_directories`), links, bitmaps.

Memory: a bit for each block of groups that are in use, some 200 bytes for each inode in use.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from propolis.disk.base import DiskReader
from propolis.disk.checksum import crc32c
from propolis.disk.ext4 import structs, verify_superblock
from propolis.disk.ext4.node import shown
from propolis.disk.ext4.verify_directories import DirectoryJudge
from propolis.disk.ext4.verify_inodes import BlockMap, InodeJudge
from propolis.disk.ext4.verify_superblock import MOST_FAULTS, MOST_INODES, Enough, Findings, Geometry

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
        self._findings = findings
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
            if crc32c(geometry.seed, blank) & 0xFFFF != low[11]:
                self._add(f"group {number}: wrong checksum of its descriptor")
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
            self._unused_inodes(low[10] | high[6] << 16, bool(low[6] & structs.EXT4_BG_INODE_UNINIT)),
        )
        if group.flags & ~_KNOWN_FLAGS or group.unused_inodes > geometry.inodes_per_group:
            self._add(f"group {number}: a damaged descriptor")
            raise Enough
        return group

    def _unused_inodes(self, told: int, uninitialised: bool) -> int:
        """How many at the end of a group were never used; only descriptors with checksums can say."""
        if not self._geometry.has_checksums:
            return 0
        return self._geometry.inodes_per_group if uninitialised else told

    def inodes(self, groups: list[_Group]) -> InodeJudge:
        """Judge all inodes."""
        per_group = self._geometry.inodes_per_group
        inodes = InodeJudge(self._disk, self._geometry, self._used, self._findings)
        for number, group in enumerate(groups):
            inodes.table(number * per_group + 1, group.inode_table, per_group - group.unused_inodes)
        inodes.finish()
        return inodes

    def links(self, inodes: InodeJudge, directories: DirectoryJudge) -> None:
        """Judge what all directories together say of inodes."""
        geometry, root = self._geometry, structs.EXT4_ROOT_INO
        reached = {root}
        for ino in inodes.directories:
            above = directories.parents.get(ino, root if ino == root else 0)
            if directories.dotdots.get(ino, above) != above:
                self._add(f"a directory whose .. leads to inode {directories.dotdots[ino]}, not to {above}", ino)
            if not _reaches(ino, directories.parents, reached):
                self._add("a directory that no path leads to", ino)
        for ino, mode in inodes.modes.items():
            found, told = directories.references[ino], mode >> 16
            if (ino < geometry.first_ino and ino != root) or ino == geometry.orphan_file_ino:
                continue
            if mode & 0o170000 == structs.S_IFDIR and found > structs.EXT4_LINK_MAX:
                found = 1  # more than can be counted (dir_nlink)
            if told != found:
                self._add(f"counts {told} links, has {found}", ino)
        if not any(where == (root, b"lost+found") for where in directories.names.values()):
            self._add("there is no directory lost+found in the root")

    def bitmaps(self, groups: list[_Group], inodes: InodeJudge) -> None:
        """Judge bitmaps, and what is counted by them."""
        geometry = self._geometry
        used_inodes: dict[int, list[int]] = {}
        used_directories: Counter[int] = Counter()
        for ino in (*range(1, geometry.first_ino), *inodes.modes):
            group, index = divmod(ino - 1, geometry.inodes_per_group)
            used_inodes.setdefault(group, []).append(index)
        for ino in inodes.directories:
            used_directories[(ino - 1) // geometry.inodes_per_group] += 1
        free_blocks = free_inodes = 0
        for number, group in enumerate(groups):
            blocks = self._block_bitmap(number, group)
            free = self._inode_bitmap(number, group, used_inodes.get(number, []))
            counted = blocks, free, used_directories[number]
            told = group.free_blocks, group.free_inodes, group.directories
            if told != counted:
                self._add(f"group {number}: counts {told} free blocks, free inodes, directories; has {counted}")
            free_blocks += blocks
            free_inodes += free
        if (geometry.free_blocks, geometry.free_inodes) != (free_blocks, free_inodes):
            total = f"{geometry.free_blocks} free blocks and {geometry.free_inodes} free inodes"
            self._add(f"superblock: counts {total}, the groups have {free_blocks} and {free_inodes}")

    def _block_bitmap(self, number: int, group: _Group) -> int:
        """Judge it; returns how many blocks are free."""
        geometry = self._geometry
        start, end = geometry.group_range(number)
        used = self._used.groups.get(number, 0)
        if group.flags & structs.EXT4_BG_BLOCK_UNINIT and geometry.has_checksums:
            if used != self._own.get(number, 0):
                self._add(f"group {number}: marked as never used, but files have blocks of it")
        else:
            length = geometry.blocks_per_group // 8
            self._bitmap(number, "block", group.block_bitmap, length, used, end - start, group.block_checksum)
        return end - start - used.bit_count()

    def _inode_bitmap(self, number: int, group: _Group, used: list[int]) -> int:
        """Judge it; returns how many inodes are free."""
        geometry = self._geometry
        count = geometry.inodes_per_group
        bits = bytearray(-(-count // 8))
        for index in used:
            bits[index >> 3] |= 1 << (index & 7)
        whole = int.from_bytes(bits, "little")
        if not group.flags & structs.EXT4_BG_INODE_UNINIT or not geometry.has_checksums:
            self._bitmap(number, "inode", group.inode_bitmap, count // 8, whole, count, group.inode_checksum)
        return count - whole.bit_count()

    def _bitmap(self, number: int, what: str, block: int, length: int, used: int, count: int, checksum: int) -> None:
        """Compare a bitmap of `count` bits with those in use; `length` of its bytes are in the checksum."""
        size = self._geometry.block_size
        data = self._disk.read(block * size, size)
        if self._geometry.has_checksums:
            mask = 0xFFFFFFFF if self._geometry.desc_size > structs.DESC_SIZE else 0xFFFF
            if crc32c(self._geometry.seed, data[:length]) & mask != checksum:
                self._add(f"group {number}: wrong checksum of the {what} bitmap")
        bits = int.from_bytes(data, "little")
        differing = (bits ^ used) & (1 << count) - 1
        if differing:
            first = (differing & -differing).bit_length() - 1
            state = "in use" if used >> first & 1 else "free"
            self._add(
                f"group {number}: the {what} bitmap is wrong for {differing.bit_count()} of {count}, "
                f"the first is number {first}, which is {state}"
            )
        if bits >> count != (1 << 8 * size - count) - 1:
            self._add(f"group {number}: the {what} bitmap has free bits behind its end")


def _reaches(ino: int, parents: dict[int, int], reached: set[int]) -> bool:
    """Whether a way up ends at the root; all on it are then added to `reached`."""
    way: list[int] = []
    seen = set()
    while ino not in reached:
        if ino in seen or ino not in parents:
            return False
        seen.add(ino)
        way.append(ino)
        ino = parents[ino]
    reached.update(way)
    return True
