"""Everything of a file system that is not file content, as bytes: from a finished tree and its layout.

Follows the kernel's Documentation/filesystems/ext4. Nothing here depends on the time of day or on chance: identifiers
come from the caller's key.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from propolis.disk.ext4 import directory, extents, plan, structs, xattrs
from propolis.disk.ext4.checksum import INITIAL, crc32c
from propolis.disk.ext4.node import Node, encode_device, encode_time, shown
from propolis.disk.ext4.plan import Layout, Run
from propolis.disk.ext4.stream import BlockStream
from propolis.disk.ext4.structs import BLOCK_SIZE, BLOCKS_PER_GROUP, EXT4_GOOD_OLD_FIRST_INO, EXT4_ROOT_INO, INODE_SIZE
from propolis.errors import LayerUnsupported

_COMPAT = structs.EXT4_FEATURE_COMPAT_EXT_ATTR | structs.EXT4_FEATURE_COMPAT_SPARSE_SUPER2
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


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a file system is: identifiers derived from a key, the same for the same key."""

    uuid: bytes
    hash_seed: bytes
    label: bytes = b""

    @property
    def seed(self) -> int:
        """The checksum that all others start from."""
        return crc32c(INITIAL, self.uuid)


def identity(key: str, label: bytes = b"") -> Identity:
    """Identifiers for a file system that is told from others by `key`."""
    digest = bytearray(hashlib.sha256(b"propolis ext4 " + key.encode()).digest())
    digest[6] = digest[6] & 0x0F | 0x80  # RFC 9562: version 8, made by an algorithm of our own
    digest[8] = digest[8] & 0x3F | 0x80
    return Identity(bytes(digest[:16]), bytes(digest[16:32]), label)


def number_inodes(root: Node, lost_found: Node) -> list[Node]:
    """Give every inode its number, in the order of the tree; returns all from EXT4_GOOD_OLD_FIRST_INO on."""
    root.ino, root.parent = EXT4_ROOT_INO, root
    root.links = 1
    lost_found.ino = EXT4_GOOD_OLD_FIRST_INO
    numbered = [lost_found]
    pending = [root]
    while pending:
        parent = pending.pop()
        for node in (parent.children or {}).values():
            if not node.ino:
                node.ino = EXT4_GOOD_OLD_FIRST_INO + len(numbered)
                numbered.append(node)
            if node.children is not None:
                node.parent = parent
                pending.append(node)
    return numbered


class MetadataWriter:
    """Writes the metadata of one tree: first what belongs to single inodes, then what belongs to the whole."""

    def __init__(self, stream: BlockStream, who: Identity, what: str) -> None:
        self._stream = stream
        self._who = who
        self._seed = who.seed
        self._what = what
        self._maps: dict[int, tuple[bytes, int]] = {}
        self._attributes: dict[int, tuple[bytes, int]] = {}

    def write_inode_blocks(self, nodes: Sequence[Node]) -> None:
        """Directories, long symbolic links, attribute blocks and extent trees, appended to the stream."""
        for node in nodes:
            if node.children is not None:
                blocks = directory.build(node, self._inode_seed(node.ino))
                node.size = len(blocks) * BLOCK_SIZE
                node.extents = [(0, self._append(blocks), len(blocks))]
            elif node.kind == structs.S_IFLNK and node.size > structs.FAST_SYMLINK:
                node.extents = [(0, self._append([node.link.ljust(BLOCK_SIZE, b"\0")]), 1)]
            if node.xattrs:
                self._write_attributes(node, nodes[0])
            if len(node.extents) > 1 or node.blocks > structs.EXT_INIT_MAX_LEN:
                self._write_extents(node)
        self._stream.commit()

    def _append(self, blocks: Sequence[bytes]) -> int:
        first = self._stream.block
        for block in blocks:
            self._stream.append(block)
        return first

    def _write_attributes(self, node: Node, root: Node) -> None:
        try:
            entries = xattrs.items(node.xattrs)
        except xattrs.Unrepresentable as error:
            raise LayerUnsupported(f"{self._what}: {_path_of(node, root)}: {error}") from error
        if xattrs.fits_in_inode(entries):
            self._attributes[node.ino] = (xattrs.build_in_inode(entries), 0)
        elif xattrs.fits_in_block(entries):
            number = self._stream.block
            self._attributes[node.ino] = (b"", number)
            self._append([xattrs.build_block(entries, number, self._seed)])
        else:
            names = ", ".join(name.decode(errors="backslashreplace") for name in node.xattrs)
            raise LayerUnsupported(
                f"{self._what}: {_path_of(node, root)}: the extended attributes are larger than 4 KiB: {names[:200]}"
            )

    def _write_extents(self, node: Node) -> None:
        seed = self._inode_seed(node.ino)
        root, blocks = extents.build(extents.split(node.extents), self._stream.block, seed)
        self._append(blocks)
        self._maps[node.ino] = (root, len(blocks))

    def write_tables(self, layout: Layout, root: Node, nodes: Sequence[Node], used: Sequence[Run]) -> None:
        """Inode tables, bitmaps, descriptors and, last of all, the superblock.

        `used` are the blocks of content and of inodes' own metadata; those of the layout come on top.
        """
        by_number = {node.ino: node for node in (root, *nodes)}
        highest = max(by_number)
        group_of = Counter(
            (node.ino - 1) // layout.inodes_per_group for node in by_number.values() if node.children is not None
        )
        runs = plan.by_group([*layout.metadata, *used])
        descriptors, free_blocks, free_inodes = [], 0, 0
        for group in range(layout.groups):
            self._write_inode_table(layout, group, by_number, highest)
            flags, block_map, free = self._block_bitmap(layout, group, runs.get(group, ()))
            inodes_used = max(0, min(highest - group * layout.inodes_per_group, layout.inodes_per_group))
            inode_map, inode_flags = self._inode_bitmap(layout, group, inodes_used)
            unused = layout.inodes_per_group - inodes_used
            descriptor = structs.group_desc.pack(
                layout.bitmaps + group, layout.bitmaps + layout.groups + group,
                layout.inode_table + group * layout.table_blocks,
                free, unused, group_of[group], flags | inode_flags | structs.EXT4_BG_INODE_ZEROED,
                0, block_map, inode_map, unused, 0,
            )  # fmt: skip
            checksum = crc32c(crc32c(self._seed, structs.u32.pack(group)), descriptor) & 0xFFFF
            descriptors.append(descriptor[:-2] + checksum.to_bytes(2, "little"))
            free_blocks += free
            free_inodes += unused
        self._stream.commit()
        self._stream.fill(1, b"".join(descriptors).ljust(layout.descriptor_blocks * BLOCK_SIZE, b"\0"))
        self._stream.fill(0, self._super_block(layout, free_blocks, free_inodes))

    def _write_inode_table(self, layout: Layout, group: int, by_number: dict[int, Node], highest: int) -> None:
        first = group * layout.inodes_per_group + 1
        last = min(first + layout.inodes_per_group - 1, highest)
        if last < first:
            return
        empty = bytes(INODE_SIZE)
        records = []
        for number in range(first, last + 1):
            node = by_number.get(number)
            records.append(
                self._inode(node) if node else empty if number >= EXT4_GOOD_OLD_FIRST_INO else self._reserved(number)
            )
        table = b"".join(records)
        self._stream.fill(
            layout.inode_table + group * layout.table_blocks,
            table.ljust(-(-len(table) // BLOCK_SIZE) * BLOCK_SIZE, b"\0"),
        )

    def _reserved(self, number: int) -> bytes:
        record = bytearray(INODE_SIZE)
        structs.u16.pack_into(record, structs.INODE_CHECKSUM_LO, self._checksum(number, record) & 0xFFFF)
        return bytes(record)

    def _inode(self, node: Node) -> bytes:
        block, map_blocks, flags, kind = b"", 0, 0, node.kind
        if kind in (structs.S_IFREG, structs.S_IFDIR) or node.extents:
            flags = structs.EXT4_EXTENTS_FL
            block, map_blocks = self._maps.get(node.ino) or (extents.root(node.extents), 0)
        elif kind == structs.S_IFLNK:
            block = node.link
        elif kind in (structs.S_IFCHR, structs.S_IFBLK):
            block = encode_device(*node.device)
        attributes, attribute_block = self._attributes.get(node.ino, (b"", 0))
        sectors = (node.blocks + map_blocks + (attribute_block > 0)) * (BLOCK_SIZE // 512)
        seconds, extra = encode_time(node.mtime_ns)
        record = bytearray(INODE_SIZE)
        structs.inode.pack_into(
            record, 0,
            node.mode, node.uid & 0xFFFF, node.size & 0xFFFFFFFF, seconds, seconds, seconds, 0, node.gid & 0xFFFF,
            self._link_count(node), sectors & 0xFFFFFFFF, flags, 0,
            block,
            0, attribute_block, node.size >> 32, 0,
            sectors >> 32, 0, node.uid >> 16, node.gid >> 16, 0, 0,
            structs.EXTRA_ISIZE, 0, extra, extra, extra, seconds, extra, 0, 0,
        )  # fmt: skip
        if attributes:
            record[structs.inode.size : structs.inode.size + len(attributes)] = attributes
        checksum = self._checksum(node.ino, record)
        structs.u16.pack_into(record, structs.INODE_CHECKSUM_LO, checksum & 0xFFFF)
        structs.u16.pack_into(record, structs.INODE_CHECKSUM_HI, checksum >> 16)
        return bytes(record)

    def _link_count(self, node: Node) -> int:
        if node.children is None:
            return node.links
        count = 2 + sum(child.children is not None for child in node.children.values())
        return count if count <= structs.EXT4_LINK_MAX else 1  # dir_nlink: too many to count

    def _inode_seed(self, number: int) -> int:
        return crc32c(self._seed, structs.u64.pack(number))  # number and a generation of 0

    def _checksum(self, number: int, record: bytearray) -> int:
        return crc32c(self._inode_seed(number), bytes(record))

    def _block_bitmap(self, layout: Layout, group: int, runs: Sequence[Run]) -> tuple[int, int, int]:
        """Write it; returns flags, checksum and the number of free blocks."""
        first, end = layout.group_range(group)
        bits = plan.bitmap(first, end, runs)
        free = end - first - bits.bit_count()
        if not bits and 0 < group < layout.groups - 1:
            return structs.EXT4_BG_BLOCK_UNINIT, 0, free
        bits |= (1 << BLOCKS_PER_GROUP) - (1 << end - first)
        data = bits.to_bytes(BLOCK_SIZE, "little")
        self._stream.fill(layout.bitmaps + group, data)
        return 0, crc32c(self._seed, data) & 0xFFFF, free

    def _inode_bitmap(self, layout: Layout, group: int, used: int) -> tuple[int, int]:
        """Write it; returns checksum and flags."""
        if not used:
            return 0, structs.EXT4_BG_INODE_UNINIT
        count = layout.inodes_per_group
        bits = (1 << used) - 1 | (1 << BLOCKS_PER_GROUP) - (1 << count)
        data = bits.to_bytes(BLOCK_SIZE, "little")
        self._stream.fill(layout.bitmaps + layout.groups + group, data)
        return crc32c(self._seed, data[: count // 8]) & 0xFFFF, 0

    def _super_block(self, layout: Layout, free_blocks: int, free_inodes: int) -> bytes:
        block = bytearray(BLOCK_SIZE)
        base = structs.SB_OFFSET
        structs.super_block_head.pack_into(
            block, base,
            layout.groups * layout.inodes_per_group, layout.blocks, 0, free_blocks, free_inodes, 0,
            structs.LOG_BLOCK_SIZE, structs.LOG_BLOCK_SIZE, BLOCKS_PER_GROUP, BLOCKS_PER_GROUP,
            layout.inodes_per_group, 0, 0,
            0, _NO_CHECK, structs.EXT4_SUPER_MAGIC, structs.EXT4_VALID_FS, 1, 0,
            0, 0, 0, structs.EXT4_DYNAMIC_REV, 0, 0, EXT4_GOOD_OLD_FIRST_INO, INODE_SIZE, 0,
            _COMPAT, _INCOMPAT, _RO_COMPAT, self._who.uuid, self._who.label, b"",
        )  # fmt: skip
        structs.sb_hash.pack_into(
            block, base + structs.SB_HASH_SEED, self._who.hash_seed, structs.DX_HASH_HALF_MD4, 0, 0
        )
        structs.sb_extra_isize.pack_into(
            block,
            base + structs.SB_MIN_EXTRA_ISIZE,
            structs.EXTRA_ISIZE,
            structs.EXTRA_ISIZE,
            structs.EXT2_FLAGS_SIGNED_HASH,
        )
        block[base + structs.SB_LOG_GROUPS_PER_FLEX] = _LOG_GROUPS_PER_FLEX
        block[base + structs.SB_CHECKSUM_TYPE] = structs.CHECKSUM_TYPE_CRC32C
        checksum = crc32c(INITIAL, bytes(block[base : base + structs.SB_CHECKSUM]))
        structs.u32.pack_into(block, base + structs.SB_CHECKSUM, checksum)
        return bytes(block)


def _path_of(node: Node, root: Node) -> str:
    """A path of `node`, for a message."""
    pending = [(b"", root)]
    while pending:
        path, parent = pending.pop()
        for name, child in (parent.children or {}).items():
            if child is node:
                return shown(path + name)
            pending.append((b"%b%b/" % (path, name), child))
    return shown(b"")


def recorded_size(head: bytes) -> int | None:
    """The size in bytes that the superblock in a disk's first block tells; None where there is no superblock."""
    if len(head) < structs.SB_OFFSET + structs.SB_SIZE:
        return None
    fields = structs.super_block_head.unpack_from(head, structs.SB_OFFSET)
    return int(fields[1]) * BLOCK_SIZE if fields[15] == structs.EXT4_SUPER_MAGIC else None
