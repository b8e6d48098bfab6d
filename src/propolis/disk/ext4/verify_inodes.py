"""Inodes, their extents and their extended attributes, judged one by one: for `verify`.

Follows Documentation/filesystems/ext4 (inodes.rst, ifork.rst, attributes.rst) and what e2fsck's first pass asks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from struct import Struct

from propolis.disk.base import DiskReader
from propolis.disk.checksum import INITIAL, crc32c
from propolis.disk.ext4 import structs
from propolis.disk.ext4.journal import JBD2_MAGIC_NUMBER
from propolis.disk.ext4.verify_superblock import Findings, Geometry

_CHUNK = 1 << 18
"""Bytes of an inode table that are read at once."""
_MOST_DEPTH = 5
_MOST_SIZE = (1 << 32) - 1
"""In blocks."""

# mode uid size_lo atime ctime mtime dtime gid links_count blocks_lo flags version | block | generation file_acl_lo
# size_high obso_faddr blocks_high file_acl_high uid_high gid_high checksum_lo reserved
_inode = Struct("<2H 5I 2H 3I 60s 4I 6H")
_CHECKSUM_LO, _CHECKSUM_HI = 0x7C, 0x82
_xattr_header = Struct("<5I")  # magic refcount blocks hash checksum
_XATTR_HEADER_SIZE = 32
_xattr_entry = Struct("<B B H I I I")
_BAD_INO, _RESIZE_INO = 1, 7
_INDEX, _EXTENTS, _HUGE = 0x1000, 0x80000, 0x40000
_UNKNOWN_FLAGS = 0x800 | 0x100000 | 0x200000 | 0x10000000 | 0x40000000
"""Encrypted, verity, with attributes in inodes, with data in the inode, with folded names."""
_KINDS = {
    structs.S_IFIFO,
    structs.S_IFCHR,
    structs.S_IFDIR,
    structs.S_IFBLK,
    structs.S_IFREG,
    structs.S_IFLNK,
    0o140000,
}
_JOURNAL_SEQUENCE_AND_START = Struct(">2I")


class BlockMap:
    """Which blocks are in use; a group's are the bits of one number."""

    def __init__(self, geometry: Geometry) -> None:
        self._first, self._end = geometry.first_block, geometry.blocks
        self._per_group = geometry.blocks_per_group
        self.groups: dict[int, int] = {}

    def take(self, start: int, count: int) -> bool:
        """Mark blocks that exist as used; whether all were free."""
        group, offset = divmod(start - self._first, self._per_group)
        free = True
        while count > 0:
            length = min(count, self._per_group - offset)
            mask = (1 << length) - 1 << offset
            before = self.groups.get(group, 0)
            if before & mask:
                free = False
            self.groups[group] = before | mask
            group, offset, count = group + 1, 0, count - length
        return free

    def holds(self, start: int, count: int) -> bool:
        """Whether there are such blocks."""
        return self._first <= start and count >= 0 and start + count <= self._end


@dataclass(slots=True)
class Directory:
    """What the next pass needs to know of a directory."""

    seed: int
    indexed: bool
    size: int
    runs: list[tuple[int, int, int]]
    """Logical block, physical block, count."""


@dataclass(slots=True)
class _Attributes:
    """A block of extended attributes."""

    expected: int
    users: int


class _Map:
    """What walking an inode's extents found."""

    __slots__ = ("blocks", "keep", "last", "next", "runs")

    def __init__(self, keep: bool) -> None:
        self.blocks = 0
        """Of content and of the tree."""
        self.next = 0
        """The lowest logical block that may follow."""
        self.last = -1
        """The last logical block that was written."""
        self.keep = keep
        self.runs: list[tuple[int, int, int]] = []


class InodeJudge:
    """Looks at all inodes of a file system and remembers what the other passes need."""

    def __init__(self, disk: DiskReader, geometry: Geometry, used: BlockMap, findings: Findings) -> None:
        self._disk = disk
        self._geometry = geometry
        self._used = used
        self._add = findings.add
        self._attributes: dict[int, _Attributes] = {}
        self.modes: dict[int, int] = {}
        """Of inodes in use: type, permissions and, from bit 16 on, the number of links."""
        self.directories: dict[int, Directory] = {}

    def table(self, first_ino: int, block: int, count: int) -> None:
        """Judge `count` inodes from `first_ino` on, whose table begins at `block`."""
        size = self._geometry.inode_size
        per_chunk = _CHUNK // size
        zeros = bytes(_CHUNK)
        for start in range(0, count, per_chunk):
            length = min(per_chunk, count - start) * size
            data = self._disk.read(block * self._geometry.block_size + start * size, length)
            if data == zeros[:length]:
                continue
            for at in range(0, length, size):
                raw = data[at : at + size]
                if raw != zeros[:size]:
                    self._inode(first_ino + start + at // size, raw)

    def finish(self) -> None:
        """Judge what only all inodes together tell."""
        for block, attributes in self._attributes.items():
            if attributes.expected != attributes.users:
                self._add(f"attribute block {block}: counts {attributes.expected} users, has {attributes.users}")
        geometry = self._geometry
        if self.modes.get(structs.EXT4_ROOT_INO, 0) & 0o170000 != structs.S_IFDIR:
            self._add("there is no root directory")
        if geometry.journal_ino and geometry.journal_ino not in self.modes:
            self._add("there is no journal", geometry.journal_ino)

    def _inode(self, ino: int, raw: bytes) -> None:
        fields = _inode.unpack_from(raw)
        mode, links, flags, generation = fields[0], fields[8], fields[10], fields[13]
        seed = crc32c(self._geometry.seed, ino.to_bytes(4, "little") + generation.to_bytes(4, "little"))
        if self._geometry.has_checksums and not _is_sound(raw, seed):
            self._add("wrong checksum", ino)
        if not links and ino != _BAD_INO:
            if mode and not fields[6]:
                self._add("not in use, but never removed", ino)
            return None
        if ino == _BAD_INO:
            return None
        self.modes[ino] = mode | links << 16
        if ino == _RESIZE_INO:
            return self._resize_inode(raw[40:100])
        if ino < self._geometry.first_ino and ino not in (structs.EXT4_ROOT_INO, self._geometry.journal_ino):
            self._add("a reserved inode is in use", ino)
        if mode & 0o170000 not in _KINDS:
            return self._add(f"unknown type of file: mode {mode:o}", ino)
        if flags & _UNKNOWN_FLAGS:
            return self._add(f"flags that cannot be judged: {flags & _UNKNOWN_FLAGS:#x}", ino)
        if fields[6]:
            self._add("in use, but with a time of removal", ino)
        return self._content(ino, raw, fields, seed)

    def _content(self, ino: int, raw: bytes, fields: tuple[int, ...], seed: int) -> None:
        mode, flags = fields[0], fields[10]
        kind = mode & 0o170000
        size = fields[2] | fields[15] << 32
        mapped = _Map(kind in (structs.S_IFDIR, structs.S_IFLNK) or ino == self._geometry.journal_ino)
        attribute_block = fields[14] | fields[18] << 32
        own = self._attribute_block(ino, attribute_block) if attribute_block else 0
        self._attributes_in(ino, raw)
        block: bytes = fields[12]  # type: ignore[assignment]
        if flags & _EXTENTS:
            if kind not in (structs.S_IFDIR, structs.S_IFREG, structs.S_IFLNK):
                self._add("has extents, which its type never has", ino)
            self._node(ino, seed, block, None, mapped)
        elif kind in (structs.S_IFDIR, structs.S_IFREG) and any(block):
            self._add("has its blocks listed in the old way, which cannot be judged", ino)
            return
        sectors = fields[9] | fields[17] << 32
        unit = self._geometry.block_size if flags & _HUGE else 512
        if sectors * unit != (mapped.blocks + own) * self._geometry.block_size:
            self._add(
                f"counts {sectors * unit} bytes of blocks, has {(mapped.blocks + own) * self._geometry.block_size}", ino
            )
        if flags & _INDEX and kind != structs.S_IFDIR:
            self._add("has an index, but is no directory", ino)
        if kind == structs.S_IFDIR:
            self._directory(ino, seed, size, bool(flags & _INDEX), mapped)
        elif kind == structs.S_IFLNK:
            self._link(ino, block, size, mapped)
        elif kind == structs.S_IFREG:
            if size < mapped.last * self._geometry.block_size or size > _MOST_SIZE * self._geometry.block_size:
                self._add(f"a size of {size} bytes, which does not fit its blocks", ino)
        elif size or any(block[8:]):
            self._add("a device, pipe or socket with content", ino)
        if ino == self._geometry.journal_ino:
            self._journal(ino, mode, mapped)

    def _directory(self, ino: int, seed: int, size: int, indexed: bool, mapped: _Map) -> None:
        block_size = self._geometry.block_size
        blocks = sum(count for _, _, count in mapped.runs)
        if not blocks or mapped.next != blocks or size != blocks * block_size:
            self._add(f"a directory of {size} bytes with {blocks} blocks", ino)
        self.directories[ino] = Directory(seed, indexed, blocks, mapped.runs)

    def _link(self, ino: int, block: bytes, size: int, mapped: _Map) -> None:
        if not mapped.runs:
            right = 0 < size < len(block) and block.find(0) == size
        else:
            (logical, physical, count), block_size = mapped.runs[0], self._geometry.block_size
            right = len(mapped.runs) == 1 and (logical, count) == (0, 1) and 0 < size < block_size
            right = right and self._disk.read(physical * block_size, block_size).find(0) == size
        if not right:
            self._add(f"a symbolic link of {size} bytes that does not agree with its target", ino)

    def _resize_inode(self, block: bytes) -> None:
        """Of its blocks only one is not where group descriptors may grow."""
        number = int.from_bytes(block[4 * 13 : 4 * 14], "little")
        if number and not (self._used.holds(number, 1) and self._used.take(number, 1)):
            self._add("the room for descriptors is listed in a block that is not its own", _RESIZE_INO)

    def _journal(self, ino: int, mode: int, mapped: _Map) -> None:
        size = self._geometry.block_size
        head = self._disk.read(mapped.runs[0][1] * size, 1024) if mapped.runs else bytes(1024)
        magic, kind, _, block_size, length, first, _, start, _, _, incompat, _ = (
            int.from_bytes(head[at : at + 4], "big") for at in range(0, 48, 4)
        )
        right = magic == JBD2_MAGIC_NUMBER and kind in (3, 4) and block_size == size
        right = right and 1024 <= length <= mapped.next and 0 < first < length and start == 0
        if right and incompat & 0x18:  # CSUM_V2, CSUM_V3
            plain = head[:0xFC] + bytes(4) + head[0x100:]
            right = crc32c(INITIAL, plain) == int.from_bytes(head[0xFC:0x100], "big")
        if mode & 0o170000 != structs.S_IFREG or not right:
            self._add("the journal is damaged, or in use", ino)

    def _node(self, ino: int, seed: int, node: bytes, depth_wanted: int | None, mapped: _Map) -> None:
        """A node of an extent tree; the root has no wanted depth."""
        magic, entries, most, depth, _ = structs.extent_header.unpack_from(node)
        room = (len(node) - 12) // 12
        if (
            magic != structs.EXT_MAGIC
            or not entries <= most <= room
            or most + 1 < room
            or (depth_wanted is not None and (depth != depth_wanted or not entries))
            or depth > _MOST_DEPTH
        ):
            return self._add("a damaged extent tree", ino)
        if depth_wanted is not None and self._geometry.has_checksums:
            tail = 12 * (most + 1)
            if crc32c(seed, node[:tail]).to_bytes(4, "little") != node[tail : tail + 4]:
                self._add("an extent block with a wrong checksum", ino)
        for at in range(12, 12 + 12 * entries, 12):
            if depth:
                self._below(ino, seed, structs.extent_idx.unpack_from(node, at), depth, mapped)
            else:
                self._extent(ino, structs.extent.unpack_from(node, at), mapped)
        return None

    def _below(self, ino: int, seed: int, entry: tuple[int, int, int, int], depth: int, mapped: _Map) -> None:
        logical, low, high, _ = entry
        block, size = low | high << 32, self._geometry.block_size
        if not self._used.holds(block, 1) or logical < mapped.next:
            return self._add("a damaged extent tree", ino)
        if not self._used.take(block, 1):
            return self._add(f"its extent block {block} is also used otherwise", ino)
        mapped.blocks += 1
        node = self._disk.read(block * size, size)
        if node[12:16] != logical.to_bytes(4, "little"):
            self._add("an extent tree whose index disagrees with what is below", ino)
        return self._node(ino, seed, node, depth - 1, mapped)

    def _extent(self, ino: int, entry: tuple[int, int, int, int], mapped: _Map) -> None:
        logical, length, high, low = entry
        physical = low | high << 32
        written = length <= structs.EXT_INIT_MAX_LEN
        count = length if written else length - structs.EXT_INIT_MAX_LEN
        if not count or logical < mapped.next or logical + count > 1 << 32 or not self._used.holds(physical, count):
            return self._add(f"an extent out of order or of the disk, at its block {logical}", ino)
        if not self._used.take(physical, count):
            self._add(f"blocks {physical} to {physical + count - 1} are also used otherwise", ino)
        mapped.next = logical + count
        mapped.blocks += count
        if written:
            mapped.last = logical + count - 1
        if mapped.keep:
            mapped.runs.append((logical, physical, count))
        return None

    def _attributes_in(self, ino: int, raw: bytes) -> None:
        if len(raw) == structs.GOOD_OLD_INODE_SIZE:
            return None
        extra = int.from_bytes(raw[128:130], "little")
        if extra % 4 or not 4 <= extra <= len(raw) - structs.GOOD_OLD_INODE_SIZE:
            return self._add("a wrong size of the additional fields", ino)
        tail = raw[structs.GOOD_OLD_INODE_SIZE + extra :]
        if tail[:4] == structs.EXT4_XATTR_MAGIC.to_bytes(4, "little") and not _are_sound(tail, 4, 4):
            self._add("damaged extended attributes", ino)
        return None

    def _attribute_block(self, ino: int, number: int) -> int:
        """Judge a block of attributes; how many blocks it is."""
        known = self._attributes.get(number)
        if known is not None:
            known.users += 1
            return 1
        if not self._used.holds(number, 1) or not self._used.take(number, 1):
            self._add(f"its attribute block {number} is also used otherwise", ino)
            return 0
        size = self._geometry.block_size
        block = self._disk.read(number * size, size)
        magic, users, blocks, _, checksum = _xattr_header.unpack_from(block)
        self._attributes[number] = _Attributes(users, 1)
        if magic != structs.EXT4_XATTR_MAGIC or blocks != 1 or not _are_sound(block, _XATTR_HEADER_SIZE, 0):
            self._add("damaged extended attributes", ino)
        elif self._geometry.has_checksums:
            at = structs.XATTR_HEADER_CHECKSUM
            blank = number.to_bytes(8, "little") + block[:at] + bytes(4) + block[at + 4 :]
            if crc32c(self._geometry.seed, blank) != checksum:
                self._add("an attribute block with a wrong checksum", ino)
        return 1


def _is_sound(raw: bytes, seed: int) -> bool:
    """Whether an inode has the right checksum."""
    lo, hi = _CHECKSUM_LO, _CHECKSUM_HI
    stored = int.from_bytes(raw[lo : lo + 2], "little")
    blank = raw[:lo] + b"\0\0" + raw[lo + 2 :]
    if len(raw) > structs.GOOD_OLD_INODE_SIZE and int.from_bytes(raw[128:130], "little") >= 4:
        stored |= int.from_bytes(raw[hi : hi + 2], "little") << 16
        return crc32c(seed, blank[:hi] + b"\0\0" + blank[hi + 2 :]) == stored
    return crc32c(seed, blank) & 0xFFFF == stored


def _are_sound(area: bytes, front: int, base: int) -> bool:
    """Whether attributes' entries and values lie within `area`, apart; offsets of values count from `base`."""
    names_end = front
    values: list[tuple[int, int]] = []
    while True:
        if names_end + 4 > len(area):
            return False
        if area[names_end : names_end + 4] == bytes(4):
            break
        if names_end + _xattr_entry.size > len(area):
            return False
        name_length, _, offset, inode, length, _ = _xattr_entry.unpack_from(area, names_end)
        names_end += _xattr_entry.size + (name_length + 3 & ~3)
        if inode or (length and base + offset + length > len(area)):
            return False
        if length:
            values.append((base + offset, base + offset + length))
    values.sort()
    return all(start >= end for (_, end), (start, _) in _pairs([(0, names_end + 4), *values]))


def _pairs(items: list[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    return zip(items, islice(items, 1, None), strict=False)
