"""Writes everything of a file system that is not file content: from a finished tree and its layout.

Follows the kernel's Documentation/filesystems/ext4. Nothing here depends on the time of day or on chance.
"""

from collections.abc import Sequence

from propolis.disk.checksum import crc32c
from propolis.disk.ext4 import directory, extents, inodes, journal, plan, structs, superblock, xattrs
from propolis.disk.ext4.inodes import InodeBlocks
from propolis.disk.ext4.node import Node, shown
from propolis.disk.ext4.plan import Layout, Run
from propolis.disk.ext4.stream import BlockStream
from propolis.disk.ext4.structs import (
    BLOCK_SIZE,
    BLOCKS_PER_GROUP,
    EXT4_GOOD_OLD_FIRST_INO,
    EXT4_JOURNAL_INO,
    EXT4_ROOT_INO,
    S_IFREG,
)
from propolis.disk.ext4.superblock import Identity
from propolis.errors import LayerUnsupported


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
        self._blocks = InodeBlocks()
        self._journal: Node | None = None

    def write_inode_blocks(self, nodes: Sequence[Node]) -> None:
        """Directories, long symbolic links, attribute blocks and extent trees, appended to the stream."""
        for node in nodes:
            if node.children is not None:
                self._write_directory(node)
            elif node.link and node.size > structs.FAST_SYMLINK:
                node.extents = ((0, self._append([node.link.ljust(BLOCK_SIZE, b"\0")]), 1),)
            if node.xattrs:
                self._write_attributes(node, nodes[0])
            if inodes.needs_map(node):
                self._write_extents(node)
        self._stream.commit()

    def write_journal(self, size: int) -> None:
        """A journal for a file system of `size` bytes: nothing is in it, so all but its first block stays a hole."""
        blocks = journal.blocks_for(size)
        node = Node(S_IFREG | 0o600)
        node.ino, node.links, node.size = EXT4_JOURNAL_INO, 1, blocks * BLOCK_SIZE
        node.extents = ((0, self._append([journal.superblock(blocks, self._who.uuid)]), blocks),)
        self._stream.skip(blocks - 1)
        if inodes.needs_map(node):
            self._write_extents(node)
        self._journal = node

    def _append(self, blocks: Sequence[bytes]) -> int:
        first = self._stream.block
        for block in blocks:
            self._stream.append(block)
        return first

    def _write_directory(self, node: Node) -> None:
        blocks, indexed = directory.build(node, self._inode_seed(node.ino), self._who.hash_seed)
        node.size = len(blocks) * BLOCK_SIZE
        node.extents = ((0, self._append(blocks), len(blocks)),)
        if indexed:
            self._blocks.indexed.add(node.ino)

    def _write_attributes(self, node: Node, root: Node) -> None:
        try:
            entries = xattrs.items(node.xattrs)
        except xattrs.Unrepresentable as error:
            raise LayerUnsupported(f"{self._what}: {_path_of(node, root)}: {error}") from error
        if xattrs.fits_in_inode(entries):
            self._blocks.attributes[node.ino] = (xattrs.build_in_inode(entries), 0)
        elif xattrs.fits_in_block(entries):
            number = self._stream.block
            self._blocks.attributes[node.ino] = (b"", number)
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
        self._blocks.maps[node.ino] = (root, len(blocks))

    def _inode_seed(self, number: int) -> int:
        return crc32c(self._seed, structs.u64.pack(number))  # number and a generation of 0

    def write_tables(self, layout: Layout, root: Node, nodes: Sequence[Node], used: Sequence[Run]) -> None:
        """Inode tables, bitmaps, descriptors and, last of all, the superblock.

        `used` are the blocks of content and of inodes' own metadata; those of the layout come on top.
        """
        reserved: list[Node | None] = [None] * (EXT4_GOOD_OLD_FIRST_INO - 1)
        reserved[EXT4_ROOT_INO - 1], reserved[EXT4_JOURNAL_INO - 1] = root, self._journal
        numbered = [*reserved, *nodes]
        runs = plan.by_group([*layout.metadata, *used])
        descriptors = bytearray()
        free_blocks = free_inodes = 0
        self._stream.commit()
        for group in range(layout.groups):
            first = group * layout.inodes_per_group
            own = numbered[first : first + layout.inodes_per_group]
            flags, block_map, free = self._block_bitmap(layout, group, runs.get(group, ()))
            inode_flags, inode_map = self._inodes(layout, group, own)
            unused = layout.inodes_per_group - len(own)
            directories = sum([node is not None and node.children is not None for node in own])
            flags |= inode_flags | structs.EXT4_BG_INODE_ZEROED
            descriptors += self._descriptor(layout, group, (free, unused, directories, flags), block_map, inode_map)
            free_blocks += free
            free_inodes += unused
        self._stream.fill(1, bytes(descriptors).ljust(layout.descriptor_blocks * BLOCK_SIZE, b"\0"))
        block = superblock.build(layout, self._who, free_blocks, free_inodes, self._journal_backup())
        self._stream.fill(0, block)

    def _journal_backup(self) -> bytes:
        """What the superblock repeats of the journal's inode: i_block, the size's high half and low half."""
        if self._journal is None:
            return b""
        block = (self._blocks.maps.get(EXT4_JOURNAL_INO) or (extents.root(self._journal.extents), 0))[0]
        return (
            block.ljust(60, b"\0")
            + structs.u32.pack(self._journal.size >> 32)
            + structs.u32.pack(self._journal.size & 0xFFFFFFFF)
        )

    def _descriptor(
        self, layout: Layout, group: int, counts: tuple[int, int, int, int], block_map: int, inode_map: int
    ) -> bytes:
        free, unused, directories, flags = counts
        low = structs.group_desc.pack(
            layout.bitmaps + group, layout.bitmaps + layout.groups + group,
            layout.inode_table + group * layout.table_blocks,
            free, unused, directories, flags,
            0, block_map & 0xFFFF, inode_map & 0xFFFF, unused, 0,
        )  # fmt: skip
        # places are low: tables and bitmaps lie behind the content, however large the disk is
        high = structs.group_desc_high.pack(0, 0, 0, 0, 0, 0, 0, 0, block_map >> 16, inode_map >> 16, 0)
        high = high if layout.is_64bit else b""
        checksum = crc32c(self._seed, structs.u32.pack(group) + low + high) & 0xFFFF
        return low[: structs.GROUP_DESC_CHECKSUM] + structs.u16.pack(checksum) + high

    def _inodes(self, layout: Layout, group: int, own: Sequence[Node | None]) -> tuple[int, int]:
        """Write a group's inodes and their bitmap; returns flags and the bitmap's checksum."""
        if not own:
            return structs.EXT4_BG_INODE_UNINIT, 0
        made = inodes.table(own, group * layout.inodes_per_group + 1, self._seed, self._blocks)
        made += bytes(-len(made) % BLOCK_SIZE)
        self._stream.fill(layout.inode_table + group * layout.table_blocks, made)
        count = layout.inodes_per_group
        bits = (1 << len(own)) - 1 | (1 << BLOCKS_PER_GROUP) - (1 << count)
        data = bits.to_bytes(BLOCK_SIZE, "little")
        self._stream.fill(layout.bitmaps + layout.groups + group, data)
        return 0, crc32c(self._seed, data[: count // 8])

    def _block_bitmap(self, layout: Layout, group: int, runs: Sequence[Run]) -> tuple[int, int, int]:
        """Write it; returns flags, checksum and the number of free blocks."""
        first, end = layout.group_range(group)
        bits = plan.bitmap(first, end, runs) if runs else 0
        free = end - first - bits.bit_count()
        if not bits and 0 < group < layout.groups - 1:
            return structs.EXT4_BG_BLOCK_UNINIT, 0, free
        bits |= (1 << BLOCKS_PER_GROUP) - (1 << end - first)
        data = bits.to_bytes(BLOCK_SIZE, "little")
        self._stream.fill(layout.bitmaps + group, data)
        return 0, crc32c(self._seed, data), free


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
