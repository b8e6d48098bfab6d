"""Directories' blocks, entries and indexes of hashes, judged: for `verify`.

Follows Documentation/filesystems/ext4/directory.rst and what e2fsck's second pass asks.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from struct import Struct

from propolis.disk.base import DiskReader
from propolis.disk.checksum import crc32c
from propolis.disk.ext4 import half_md4, structs
from propolis.disk.ext4.node import shown
from propolis.disk.ext4.verify_inodes import Directory
from propolis.disk.ext4.verify_superblock import INCOMPAT_LARGEDIR, Findings, Geometry

_CHUNK = 64
"""Blocks that are read at once."""
_entry = Struct("<I H B B")
_tail = Struct("<I H B B I")
_TAIL = (0, 12, 0, 0xDE)
_ROOT_HEAD, _NODE_HEAD = 32, 8
_HASH_VERSIONS = (0, 1, 2)
"""Legacy, half MD4, Tea."""

_Entry = tuple[int, bytes, int]
"""Inode number, name, file type."""
_Ranges = dict[int, tuple[int, int]]
"""By a leaf's number in the directory: the hashes that it may have."""


class DirectoryJudge:
    """Looks at directories one by one and remembers who leads where."""

    def __init__(self, disk: DiskReader, geometry: Geometry, modes: dict[int, int], findings: Findings) -> None:
        self._disk = disk
        self._geometry = geometry
        self._modes = modes
        self._add = findings.add
        self._wanted = {ino for ino, _ in findings.found}
        self.references: Counter[int] = Counter()
        """How many entries lead to an inode."""
        self.parents: dict[int, int] = {}
        """Of directories, by the entries that lead to them."""
        self.dotdots: dict[int, int] = {}
        self.names: dict[int, tuple[int, bytes]] = {}
        """Of directories, and of inodes with faults: a directory that has them, and as what."""

    def judge(self, ino: int, directory: Directory) -> None:
        """Judge one directory."""
        ranges, version = self._index(ino, directory) if directory.indexed else (None, 0)
        names: set[bytes] = set()
        for number, block in self._blocks(directory):
            if ranges is not None and number not in ranges and number:
                continue  # a node of the index
            entries = self._root_entries(block) if ranges is not None and not number else None
            if entries is None:
                entries = self._entries(ino, directory, number, block)
            if not number:
                entries = self._dots(ino, entries)
            if ranges and version == structs.DX_HASH_HALF_MD4 and number in ranges:
                self._judge_hashes(ino, number, entries, ranges[number])
            for child, name, kind in entries:
                if name in names:
                    self._add(f"two entries {shown(name)}", ino)
                names.add(name)
                self._child(ino, child, name, kind)

    def _blocks(self, directory: Directory) -> Iterator[tuple[int, bytes]]:
        size = self._geometry.block_size
        for logical, physical, count in directory.runs:
            for start in range(0, count, _CHUNK):
                length = min(_CHUNK, count - start)
                data = self._disk.read((physical + start) * size, length * size)
                for at in range(length):
                    yield logical + start + at, data[at * size : (at + 1) * size]

    def _block(self, directory: Directory, number: int) -> bytes | None:
        at = bisect_right(directory.runs, number, key=lambda run: run[0]) - 1
        if at < 0 or number - directory.runs[at][0] >= directory.runs[at][2]:
            return None
        size = self._geometry.block_size
        return self._disk.read((directory.runs[at][1] + number - directory.runs[at][0]) * size, size)

    def _entries(self, ino: int, directory: Directory, number: int, block: bytes) -> list[_Entry]:
        """A block's entries, as far as they are sound."""
        end = len(block)
        if self._geometry.has_checksums:
            end -= _tail.size
            *tail, checksum = _tail.unpack_from(block, end)
            if tuple(tail) != _TAIL:
                self._add(f"block {number} of the directory has no checksum", ino)
            elif checksum != crc32c(directory.seed, block[:end]):
                self._add(f"block {number} of the directory has a wrong checksum", ino)
        entries = []
        at = 0
        unpack = _entry.unpack_from
        while at < end:
            child, length, name_length, kind = unpack(block, at)
            if length < 12 or length & 3 or at + length > end or (child and not 0 < name_length <= length - 8):
                self._add(f"block {number} of the directory has a damaged entry at byte {at}", ino)
                break
            if child:
                entries.append((child, block[at + 8 : at + 8 + name_length], kind))
            at += length
        return entries

    def _root_entries(self, block: bytes) -> list[_Entry]:
        """The two entries in the root of an index."""
        (own, length, own_name, own_kind), (above, rest, above_name, above_kind) = (
            _entry.unpack_from(block, at) for at in (0, 12)
        )
        if length != 12 or rest != len(block) - 12:
            return []
        return [(own, block[8 : 8 + own_name], own_kind), (above, block[20 : 20 + above_name], above_kind)]

    def _dots(self, ino: int, entries: list[_Entry]) -> list[_Entry]:
        """Judge the entries `.` and `..`; returns those behind them."""
        kind = structs.FILE_TYPES[structs.S_IFDIR >> 12]
        if entries[:1] != [(ino, b".", kind)] or len(entries) < 2 or entries[1][1:] != (b"..", kind):
            self._add("a directory that does not begin with . and ..", ino)
            return [entry for entry in entries if entry[1] not in (b".", b"..")]
        self.dotdots[ino] = entries[1][0]
        self.references[ino] += 1
        self.references[entries[1][0]] += 1
        return entries[2:]

    def _child(self, ino: int, child: int, name: bytes, kind: int) -> None:
        geometry = self._geometry
        mode = self._modes.get(child)
        if mode is None or child < geometry.first_ino or child == geometry.orphan_file_ino:
            return self._add(f"the entry {shown(name)} leads to inode {child}, which is not in use", ino)
        if b"/" in name or b"\0" in name or name in (b".", b".."):
            self._add(f"an entry with an impossible name: {shown(name)}", ino)
        mode &= 0xFFFF
        if structs.FILE_TYPES[mode >> 12] != kind and not (mode >> 12 == 0o14 and kind == 6):
            self._add(f"the entry {shown(name)} has the wrong type", ino)
        self.references[child] += 1
        if mode & 0o170000 == structs.S_IFDIR:
            if child in self.parents:
                return self._add(f"the entry {shown(name)} leads to a directory that has another place", ino)
            self.parents[child] = ino
            self.names[child] = ino, name
        elif child in self._wanted:
            self.names[child] = ino, name
        return None

    def _judge_hashes(self, ino: int, number: int, entries: list[_Entry], allowed: tuple[int, int]) -> None:
        names = [name for _, name, _ in entries if self._geometry.unsigned_hash or name.isascii()]
        low, high = allowed
        if not all(low <= major <= high for major, _ in half_md4.hashes(names, self._geometry.hash_seed)):
            self._add(f"block {number} of the directory has entries that its index does not expect there", ino)

    def _index(self, ino: int, directory: Directory) -> tuple[_Ranges | None, int]:
        """Judge an index; the leaves and their hashes, and the kind of hash. None for no index that can be used."""
        root = self._block(directory, 0)
        if root is None:
            return None, 0
        reserved, version, length, levels, flags = structs.dx_root_info.unpack_from(root, 24)
        deepest = 3 if self._geometry.incompat & INCOMPAT_LARGEDIR else 2
        if reserved or version not in _HASH_VERSIONS or length != 8 or levels >= deepest or flags & 1:
            self._add("a damaged index", ino)
            return None, 0
        ranges: _Ranges = {}
        seen = {0}
        pending = [(0, root, levels, (0, 0xFFFFFFFF))]
        while pending:
            number, node, level, (low, high) = pending.pop()
            entries = self._index_entries(ino, directory, number, node, low)
            limits = [*(hash_ for hash_, _ in entries[1:]), high]
            for (hash_, child), limit in zip(entries, limits, strict=True):
                block = self._block(directory, child) if child not in seen else None
                if block is None or hash_ > limit:
                    self._add("a damaged index", ino)
                    return None, 0
                seen.add(child)
                allowed = hash_ & ~1, limit | 1
                if level:
                    pending.append((child, block, level - 1, allowed))
                else:
                    ranges[child] = allowed
        if len(seen) != directory.size:
            self._add("blocks of the directory that its index does not have", ino)
        return ranges, version

    def _index_entries(
        self, ino: int, directory: Directory, number: int, node: bytes, low: int
    ) -> list[tuple[int, int]]:
        """What a node of the index says: from which hash on, in which block; none where it is damaged."""
        head = _NODE_HEAD if number else _ROOT_HEAD
        has_checksums = self._geometry.has_checksums
        room = (len(node) - head) // 8 - has_checksums
        limit, count, _ = structs.dx_countlimit.unpack_from(node, head)
        if limit != room or not 0 < count <= limit or (number and _entry.unpack_from(node) != (0, len(node), 0, 0)):
            self._add(f"block {number} of the directory is a damaged part of its index", ino)
            return []
        if has_checksums:
            reserved, checksum = structs.dx_tail.unpack_from(node, head + limit * 8)
            data = node[: head + count * 8] + reserved.to_bytes(4, "little") + bytes(4)
            if crc32c(directory.seed, data) != checksum:
                self._add(f"block {number} of the directory has a wrong checksum", ino)
        entries = list(structs.dx_entry.iter_unpack(node[head : head + count * 8]))
        return [(low, entries[0][1]), *entries[1:]]
