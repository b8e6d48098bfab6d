"""Writes everything of a file system that is not file content: from a finished tree and its layout.

Follows the kernel's Documentation/filesystems/ext4. Nothing here depends on the time of day or on chance.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from propolis.disk.checksum import crc32c
from propolis.disk.ext4 import directory, extents, inodes, journal, plan, structs, superblock, xattrs
from propolis.disk.ext4.inodes import InodeBlocks
from propolis.disk.ext4.node import Extent, Node
from propolis.disk.ext4.order import InodeOrder, Opened
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

LOST_FOUND = b"lost+found"
_AT_ONCE = 4096
"""Inodes that are made and written together: whole blocks, a mebibyte."""


class _Directories:
    """What is told of directories once they are written, in their order, and needed when their inodes are."""

    def __init__(self) -> None:
        self._first = array("Q")
        self._blocks = array("I")
        self._links = array("H")

    def add(self, first: int, blocks: int, subdirectories: int) -> None:
        """The next one's first block, its number of blocks, and how many directories are in it."""
        self._first.append(first)
        self._blocks.append(blocks)
        self._links.append(inodes.directory_links(subdirectories))

    def complete(self, number: int, node: Node) -> None:
        """Make `node` the inode of the directory that was added as `number`, counted from 0."""
        blocks = self._blocks[number]
        node.size, node.links = blocks * BLOCK_SIZE, self._links[number]
        node.extents = ((0, self._first[number], blocks),)


class MetadataWriter:
    """Writes the metadata of one tree: first what belongs to single inodes, then what belongs to the whole."""

    def __init__(self, stream: BlockStream, who: Identity, what: str) -> None:
        self._stream = stream
        self._who = who
        self._seed = who.seed
        self._what = what
        self._blocks = InodeBlocks()
        self._directories = _Directories()
        self._long_links: dict[int, int] = {}
        """Where the targets of symbolic links lie that do not fit their inode."""
        self._journal: Node | None = None

    def write_inode_blocks(self, root: Node, order: InodeOrder) -> None:
        """Directories, long symbolic links, attribute blocks and extent trees, appended to the stream."""
        self._write_own(root, order)
        for opened in order:
            self._write_directory(opened)
            for node in opened.new:
                if node.link or node.xattrs or len(node.extents) > 1 or inodes.needs_map(node.extents):
                    self._write_own(node, order)
        self._stream.commit()

    def _write_own(self, node: Node, order: InodeOrder) -> None:
        """What a single inode has beside its place in the table; a directory's content has been or will be written."""
        if node.link and node.size > structs.FAST_SYMLINK:
            self._long_links[node.ino] = self._append([node.link.ljust(BLOCK_SIZE, b"\0")])
        if node.xattrs:
            self._write_attributes(node, order)
        if inodes.needs_map(node.extents) and node.children is None:
            self._write_extents(node.ino, node.extents)

    def write_journal(self, size: int) -> None:
        """A journal for a file system of `size` bytes: nothing is in it, so all but its first block stays a hole."""
        blocks = journal.blocks_for(size)
        node = Node(S_IFREG | 0o600)
        node.ino, node.links, node.size = EXT4_JOURNAL_INO, 1, blocks * BLOCK_SIZE
        node.extents = ((0, self._append([journal.superblock(blocks, self._who.uuid)]), blocks),)
        self._stream.skip(blocks - 1)
        if inodes.needs_map(node.extents):
            self._write_extents(node.ino, node.extents)
        self._journal = node

    def _append(self, blocks: Iterable[bytes]) -> int:
        first = self._stream.block
        for block in blocks:
            self._stream.append(block)
        return first

    def _write_directory(self, opened: Opened) -> None:
        blocks, indexed = directory.build(opened, self._inode_seed(opened.ino), self._who.hash_seed)
        first = self._append(blocks)
        count = self._stream.block - first
        self._directories.add(first, count, opened.subdirectories)
        if indexed:
            self._blocks.indexed.add(opened.ino)
        extent = ((0, first, count),)
        if inodes.needs_map(extent):
            self._write_extents(opened.ino, extent)

    def _write_attributes(self, node: Node, order: InodeOrder) -> None:
        try:
            entries = xattrs.items(node.xattrs)
        except xattrs.Unrepresentable as error:
            raise LayerUnsupported(f"{self._what}: {order.path(node.ino)}: {error}") from error
        if xattrs.fits_in_inode(entries):
            self._blocks.attributes[node.ino] = (xattrs.build_in_inode(entries), 0)
        elif xattrs.fits_in_block(entries):
            number = self._stream.block
            self._blocks.attributes[node.ino] = (b"", number)
            self._append([xattrs.build_block(entries, number, self._seed)])
        else:
            names = ", ".join(name.decode(errors="backslashreplace") for name in node.xattrs)
            raise LayerUnsupported(
                f"{self._what}: {order.path(node.ino)}: the extended attributes are larger than 4 KiB: {names[:200]}"
            )

    def _write_extents(self, ino: int, found: Sequence[Extent]) -> None:
        root, blocks = extents.build(extents.split(found), self._stream.block, self._inode_seed(ino))
        self._append(blocks)
        self._blocks.maps[ino] = (root, len(blocks))

    def _inode_seed(self, number: int) -> int:
        return crc32c(self._seed, structs.u64.pack(number))  # number and a generation of 0

    def write_tables(self, layout: Layout, root: Node, order: InodeOrder, used: Sequence[Run]) -> None:
        """Inode tables, bitmaps, descriptors and, last of all, the superblock.

        `used` are the blocks of content and of inodes' own metadata; those of the layout come on top.
        """
        numbered = self._numbered(root, order)
        runs = plan.by_group([*layout.metadata, *used])
        descriptors = bytearray()
        free_blocks = free_inodes = 0
        self._stream.commit()
        for group in range(layout.groups):
            count = max(0, min(order.last - group * layout.inodes_per_group, layout.inodes_per_group))
            flags, block_map, free = self._block_bitmap(layout, group, runs.get(group, ()))
            directories = self._inodes(layout, group, islice(numbered, count))
            inode_flags, inode_map = self._inode_bitmap(layout, group, count)
            unused = layout.inodes_per_group - count
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

    def _numbered(self, root: Node, order: InodeOrder) -> Iterator[Node | None]:
        """Every inode, complete, from the first number on; None for those that are reserved."""
        reserved: list[Node | None] = [None] * (EXT4_GOOD_OLD_FIRST_INO - 1)
        self._directories.complete(0, root)
        reserved[EXT4_ROOT_INO - 1], reserved[EXT4_JOURNAL_INO - 1] = root, self._journal
        yield from reserved
        lost_found = (root.children or {})[LOST_FOUND]
        self._directories.complete(1, lost_found)
        yield lost_found
        known = 2
        for opened in order:
            for node in opened.new:
                if node.children is not None:
                    self._directories.complete(known, node)
                    known += 1
                elif node.link and node.ino in self._long_links:
                    node.extents = ((0, self._long_links[node.ino], 1),)
                yield node

    def _inodes(self, layout: Layout, group: int, own: Iterator[Node | None]) -> int:
        """Write a group's inodes, a part of them at a time; returns how many are directories."""
        block = layout.inode_table + group * layout.table_blocks
        number = group * layout.inodes_per_group + 1
        directories = 0
        while part := list(islice(own, _AT_ONCE)):
            made = inodes.table(part, number, self._seed, self._blocks)
            self._stream.fill(block, made + bytes(-len(made) % BLOCK_SIZE))
            directories += sum([node is not None and node.children is not None for node in part])
            number += len(part)
            block += len(made) // BLOCK_SIZE
        return directories

    def _inode_bitmap(self, layout: Layout, group: int, used: int) -> tuple[int, int]:
        """Write it; returns flags and its checksum."""
        if not used:
            return structs.EXT4_BG_INODE_UNINIT, 0
        count = layout.inodes_per_group
        bits = (1 << used) - 1 | (1 << BLOCKS_PER_GROUP) - (1 << count)
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
