"""Reads a file system as we write it: paths, attributes, content. For layers that build on others, and for looking.

Not a judge of what we write, and no validator: a damaged disk gives a DiskError or wrong answers, never more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from struct import error as struct_error

from propolis.disk import container
from propolis.disk.ext4 import structs, xattrs
from propolis.disk.ext4.node import Extent, decode_time
from propolis.disk.ext4.structs import BLOCK_SIZE, INODE_SIZE
from propolis.errors import DiskDamaged, DiskError

_S_IFMT = 0o170000
_CHUNK = 64
"""Blocks that are read at once."""
_DEEPEST = 5
_READ = (
    structs.EXT4_FEATURE_INCOMPAT_FILETYPE
    | structs.EXT4_FEATURE_INCOMPAT_EXTENTS
    | structs.EXT4_FEATURE_INCOMPAT_64BIT
    | structs.EXT4_FEATURE_INCOMPAT_FLEX_BG
    | structs.EXT4_FEATURE_INCOMPAT_CSUM_SEED
)
_UNREAD = {
    0x1: "compression",
    0x4: "a journal to replay",
    0x8: "a journal device",
    0x10: "meta_bg",
    0x100: "mmp",
    0x400: "ea_inode",
    0x1000: "dirdata",
    0x4000: "largedir",
    0x8000: "inline_data",
    0x10000: "encryption",
    0x20000: "casefold",
}


@dataclass(frozen=True, slots=True)
class Inode:
    """What an inode tells."""

    number: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    links: int
    flags: int
    block: bytes
    attribute_block: int
    tail: bytes
    """The bytes behind the fixed fields, where attributes may be."""

    @property
    def kind(self) -> int:
        """The file type bits of `mode`."""
        return self.mode & _S_IFMT

    @property
    def device(self) -> tuple[int, int]:
        """Major and minor number of a device."""
        old, new = (int.from_bytes(self.block[at : at + 4], "little") for at in (0, 4))
        return (old >> 8, old & 0xFF) if old else (new >> 8 & 0xFFF, new & 0xFF | new >> 12 & ~0xFF)


class Reader:
    """One file system in a file, opened for as long as the object is used as a context."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            DiskError: it is no file system of ours.
        """
        self._path = path
        self._disk = container.open_disk(path)
        try:
            self._recognise(self._disk.read(0, min(BLOCK_SIZE, self._disk.size)))
        except BaseException:
            self._disk.close()
            raise
        self.children = lru_cache(maxsize=1024)(self._children)

    def _recognise(self, head: bytes) -> None:
        try:
            fields = structs.super_block_head.unpack_from(head, structs.SB_OFFSET)
            hash_fields = structs.sb_hash.unpack_from(head, structs.SB_OFFSET + structs.SB_HASH_SEED)
        except struct_error:
            fields = ()
        if not fields or fields[15] != structs.EXT4_SUPER_MAGIC or not fields[10]:
            raise DiskDamaged(
                f"{self._path} holds no ext4 file system",
                path=self._path,
                hint="name another file; if it is a cached disk, remove it",
            )
        unread = fields[29] & ~_READ
        if unread or fields[6] != structs.LOG_BLOCK_SIZE or fields[26] != INODE_SIZE:
            what = ", ".join(name for bit, name in _UNREAD.items() if unread & bit) or "other sizes of blocks or inodes"
            raise DiskError(
                f"{self._path} holds an ext4 file system with {what}, which cannot be read here",
                hint="mount it on Linux, or look at it with debugfs",
            )
        self._inodes_per_group = fields[10]
        self._descriptor_size = structs.DESC_SIZE
        if fields[29] & structs.EXT4_FEATURE_INCOMPAT_64BIT:
            self._descriptor_size = max(hash_fields[3], structs.DESC_SIZE_64)

    def close(self) -> None:
        """Close the disk."""
        self._disk.close()

    def inode(self, number: int) -> Inode:
        """The inode of that number."""
        group, index = divmod(number - 1, self._inodes_per_group)
        descriptor = self._bytes(BLOCK_SIZE + group * self._descriptor_size, self._descriptor_size)
        table = structs.group_desc.unpack_from(descriptor)[2]
        if self._descriptor_size > structs.DESC_SIZE:
            table |= structs.group_desc_high.unpack_from(descriptor, structs.DESC_SIZE)[2] << 32
        raw = self._bytes(table * BLOCK_SIZE + index * INODE_SIZE, INODE_SIZE)
        fields = structs.inode.unpack_from(raw)
        return Inode(
            number=number,
            mode=fields[0],
            uid=fields[1] | fields[19] << 16,
            gid=fields[7] | fields[20] << 16,
            size=fields[2] | fields[15] << 32,
            mtime_ns=decode_time(fields[5], fields[26]),
            links=fields[8],
            flags=fields[10],
            block=fields[12],
            attribute_block=fields[14],
            tail=raw[structs.inode.size :],
        )

    def _children(self, number: int) -> dict[bytes, int]:
        """Names in the directory to inode numbers, without `.` and `..`."""
        found = {}
        for piece in self.content(self.inode(number)):
            at = 0
            while isinstance(piece, bytes) and at + structs.dir_entry.size <= len(piece):
                child, length, name_length, _ = structs.dir_entry.unpack_from(piece, at)
                if length < structs.dir_entry.size:
                    raise self.damaged()
                if child:
                    name_at = at + structs.dir_entry.size
                    found[piece[name_at : name_at + name_length]] = child
                at += length
        found.pop(b".", None)
        found.pop(b"..", None)
        return found

    def content(self, inode: Inode) -> Iterator[bytes | int]:
        """The file's bytes, and the lengths of its holes, in order."""
        position = 0
        visits = iter(range(self._disk.size // BLOCK_SIZE))
        for logical, physical, count in self._extents(inode.block, _DEEPEST, visits):
            if logical * BLOCK_SIZE > position:
                yield logical * BLOCK_SIZE - position
            elif logical * BLOCK_SIZE < position and count:
                raise self.damaged()
            position = logical * BLOCK_SIZE
            for start in range(0, count, _CHUNK):
                length = min(min(_CHUNK, count - start) * BLOCK_SIZE, inode.size - position)
                if length > 0:
                    yield self._bytes((physical + start) * BLOCK_SIZE, length)
                    position += length
        if inode.size > position:
            yield inode.size - position

    def link(self, inode: Inode) -> bytes:
        """The target of a symbolic link."""
        if inode.size > structs.MAX_SYMLINK:
            raise self.damaged()
        if inode.flags & structs.EXT4_EXTENTS_FL:
            return b"".join(piece for piece in self.content(inode) if isinstance(piece, bytes))
        return inode.block[: inode.size]

    def xattrs(self, inode: Inode) -> dict[bytes, bytes]:
        """Extended attributes by their full names."""
        found = xattrs.parse_in_inode(inode.tail)
        if inode.attribute_block:
            found |= xattrs.parse_block(self._bytes(inode.attribute_block * BLOCK_SIZE, BLOCK_SIZE))
        return found

    def _extents(self, node: bytes, deepest: int, visits: Iterator[int]) -> Iterator[Extent]:
        """The extents below a node; a tree of more nodes than `visits` counts goes in circles."""
        magic, entries, _, depth, _ = structs.extent_header.unpack_from(node)
        room = (len(node) - structs.extent_header.size) // structs.extent.size
        if magic != structs.EXT_MAGIC or depth > deepest or entries > room or next(visits, None) is None:
            raise self.damaged()
        for index in range(entries):
            at = structs.extent_header.size + index * structs.extent.size
            if depth == 0:
                logical, count, high, low = structs.extent.unpack_from(node, at)
                if count <= structs.EXT_INIT_MAX_LEN:  # a longer one is allocated, but was never written
                    yield logical, high << 32 | low, count
            else:
                _, low, high, _ = structs.extent_idx.unpack_from(node, at)
                below = self._bytes((high << 32 | low) * BLOCK_SIZE, BLOCK_SIZE)
                yield from self._extents(below, depth - 1, visits)

    def _bytes(self, offset: int, length: int) -> bytes:
        return self._disk.read(offset, length)

    def damaged(self) -> DiskDamaged:
        """The error that says so."""
        return DiskDamaged(
            f"the disk {self._path} is damaged",
            path=self._path,
            hint="remove it; if it is a cached one, it will be made again",
        )
