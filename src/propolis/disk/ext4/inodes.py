"""Inodes as they lie in the inode table. Pure: from a node and what was written for it to 256 bytes.

Follows Documentation/filesystems/ext4/inodes.rst. An image has one time for each file, so all four times are that.
"""

from collections.abc import Sequence

from propolis.disk.checksum import crc32c
from propolis.disk.ext4 import extents, structs
from propolis.disk.ext4.node import Extent, Node, encode_device, encode_time
from propolis.disk.ext4.structs import (
    BLOCK_SIZE,
    EXT4_EXTENTS_FL,
    EXT4_INDEX_FL,
    EXT_INIT_MAX_LEN,
    EXT_MAGIC,
    EXTENTS_IN_INODE,
    EXTRA_ISIZE,
    INODE_CHECKSUM_HI,
    INODE_CHECKSUM_LO,
    INODE_SIZE,
    u16,
    u64,
)

_SECTORS = BLOCK_SIZE // 512
_ONE_EXTENT = structs.extent_header.pack(EXT_MAGIC, 1, EXTENTS_IN_INODE, 0, 0)
_pack_one_extent = structs.inode_one_extent.pack_into
_pack_u16 = u16.pack_into
_pack_u64 = u64.pack


class InodeBlocks:
    """What lies outside the table for single inodes, by inode number."""

    def __init__(self) -> None:
        self.maps: dict[int, tuple[bytes, int]] = {}
        """i_block of a file with an extent tree, and the tree's blocks."""
        self.attributes: dict[int, tuple[bytes, int]] = {}
        """Attributes in the inode's tail, and the number of the block with more, or 0."""
        self.indexed: set[int] = set()
        """Directories with a hash index."""


def table(nodes: Sequence[Node | None], first: int, seed: int, blocks: InodeBlocks) -> bytearray:
    """A part of the inode table: `nodes` have the numbers from `first` on; what is None is reserved or free.

    `seed` is the file system's checksum seed.
    """
    made = bytearray(len(nodes) * INODE_SIZE)
    view = memoryview(made)
    offset, number = 0, first
    maps, indexed = blocks.maps, blocks.indexed
    for node in nodes:
        if node is not None:
            if len(node.extents) == 1 and not node.xattrs and number not in maps:
                _put_plain(made, offset, node, number in indexed)
            else:
                _put(made, offset, node, blocks)
        if node is not None or number < structs.EXT4_GOOD_OLD_FIRST_INO:
            # the inode's own seed covers its number and a generation of 0
            checksum = crc32c(seed, _pack_u64(number) + view[offset : offset + INODE_SIZE])
            _pack_u16(made, offset + INODE_CHECKSUM_LO, checksum & 0xFFFF)
            if node is not None:
                _pack_u16(made, offset + INODE_CHECKSUM_HI, checksum >> 16)
        offset += INODE_SIZE
        number += 1
    return made


def _put_plain(made: bytearray, offset: int, node: Node, is_indexed: bool) -> None:
    """What has one extent and no attributes: nearly everything."""
    size, uid, gid = node.size, node.uid, node.gid
    seconds, extra = encode_time(node.mtime_ns)
    ((logical, physical, count),) = node.extents
    _pack_one_extent(
        made, offset,
        node.mode, uid & 0xFFFF, size & 0xFFFFFFFF, seconds, seconds, seconds, gid & 0xFFFF,
        node.links, count * _SECTORS, EXT4_EXTENTS_FL | EXT4_INDEX_FL if is_indexed else EXT4_EXTENTS_FL,
        _ONE_EXTENT, logical, count, physical >> 32, physical & 0xFFFFFFFF,
        size >> 32, uid >> 16, gid >> 16, EXTRA_ISIZE, extra, extra, extra, seconds, extra,
    )  # fmt: skip


def _put(made: bytearray, offset: int, node: Node, blocks: InodeBlocks) -> None:
    mode, size, uid, gid, ino = node.mode, node.size, node.uid, node.gid, node.ino
    seconds, extra = encode_time(node.mtime_ns)
    block, flags, map_blocks = _block(node, blocks)
    attributes, attribute_block = blocks.attributes.get(ino, (b"", 0))
    sectors = (node.blocks + map_blocks + (attribute_block > 0)) * _SECTORS
    structs.inode.pack_into(
        made, offset,
        mode, uid & 0xFFFF, size & 0xFFFFFFFF, seconds, seconds, seconds, 0, gid & 0xFFFF,
        node.links, sectors & 0xFFFFFFFF, flags, 0,
        block,
        0, attribute_block, size >> 32, 0,
        sectors >> 32, 0, uid >> 16, gid >> 16, 0, 0,
        EXTRA_ISIZE, 0, extra, extra, extra, seconds, extra, 0, 0,
    )  # fmt: skip
    if attributes:
        made[offset + structs.inode.size : offset + structs.inode.size + len(attributes)] = attributes


def _block(node: Node, blocks: InodeBlocks) -> tuple[bytes, int, int]:
    """i_block, flags, and how many blocks an extent tree takes."""
    kind = node.kind
    if kind in (structs.S_IFREG, structs.S_IFDIR) or node.extents:
        root, map_blocks = blocks.maps.get(node.ino) or (extents.root(node.extents), 0)
        return root, EXT4_EXTENTS_FL | (EXT4_INDEX_FL if node.ino in blocks.indexed else 0), map_blocks
    if kind == structs.S_IFLNK:
        return node.link, 0, 0
    if kind in (structs.S_IFCHR, structs.S_IFBLK):
        return encode_device(*node.device), 0, 0
    return b"", 0, 0


def directory_links(subdirectories: int) -> int:
    """The link count of a directory."""
    count = 2 + subdirectories
    return count if count <= structs.EXT4_LINK_MAX else 1  # dir_nlink: too many to count


def needs_map(found: Sequence[Extent]) -> bool:
    """Whether i_block alone cannot tell where content with these extents lies."""
    return len(found) > 1 or (len(found) == 1 and found[0][2] > EXT_INIT_MAX_LEN)
