"""Where everything lies on a disk, decided before a byte of metadata is written. Pure arithmetic.

A layer's disk has its metadata behind its content, as the content's size is known only then; a machine's disk has it in
front, so that a large one is mostly hole. Neither has backups of superblock and descriptors (sparse_super2).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from propolis.disk.ext4.structs import BLOCK_SIZE, BLOCKS_PER_GROUP, DESC_SIZE, DESC_SIZE_64, INODES_PER_BLOCK

Run = tuple[int, int]
"""First block, number of blocks."""

MOST_BLOCKS = (64 << 40) // BLOCK_SIZE
"""Of any disk: what a VHDX can have."""
_MOST_BLOCKS_32BIT = 0xFFFFFFFF
_USUAL_DESCRIPTOR_BLOCKS = 16
"""Room for the descriptors of 256 GiB; what a smaller layer does not need stays a hole."""
_LEAST_LAST_GROUP = 64
"""A shorter last group is one that e2fsprogs would not make."""
_BYTES_PER_INODE = 16384
_MOST_INODES = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The geometry of one file system, in blocks."""

    blocks: int
    inodes_per_group: int
    inode_table: int
    """First block of all groups' inode tables, one behind the other."""
    bitmaps: int
    """First block of all groups' block bitmaps, behind them all groups' inode bitmaps."""
    content: int
    """First block that `Layout` has not given away in front of the content."""

    @property
    def is_64bit(self) -> bool:
        """Whether block numbers need more than 32 bits."""
        return _is_64bit(self.blocks)

    @property
    def groups(self) -> int:
        """Block groups."""
        return -(-self.blocks // BLOCKS_PER_GROUP)

    @property
    def table_blocks(self) -> int:
        """Blocks of one group's inode table."""
        return self.inodes_per_group // INODES_PER_BLOCK

    @property
    def descriptor_blocks(self) -> int:
        """Blocks of group descriptors."""
        return _descriptor_blocks(self.blocks)

    @property
    def metadata(self) -> list[Run]:
        """Blocks in use whatever the content is."""
        return [
            (0, 1 + self.descriptor_blocks),
            (self.inode_table, self.groups * self.table_blocks),
            (self.bitmaps, 2 * self.groups),
        ]

    def group_range(self, group: int) -> tuple[int, int]:
        """First block of a group, and the first that is not its."""
        return group * BLOCKS_PER_GROUP, min((group + 1) * BLOCKS_PER_GROUP, self.blocks)


def _is_64bit(blocks: int) -> bool:
    return blocks > _MOST_BLOCKS_32BIT


def _descriptor_blocks(blocks: int) -> int:
    groups = -(-blocks // BLOCKS_PER_GROUP)
    return -(-groups * (DESC_SIZE_64 if _is_64bit(blocks) else DESC_SIZE) // BLOCK_SIZE)


def content_start(size: int | None) -> int:
    """The first block of the content of a disk of `size` bytes that has its metadata behind it."""
    return 1 + max(_USUAL_DESCRIPTOR_BLOCKS, _descriptor_blocks(0 if size is None else _whole_groups(size)))


def most_content(size: int | None) -> int:
    """How many blocks of content and inodes' metadata such a disk may have at most."""
    if size is None:
        return _USUAL_DESCRIPTOR_BLOCKS * BLOCK_SIZE // DESC_SIZE * BLOCKS_PER_GROUP * 15 // 16
    return size // BLOCK_SIZE


def behind_content(end: int, inodes: int, size: int | None = None) -> Layout | None:
    """The layout of a disk whose content ends before block `end` and that has `inodes` inodes.

    It is as small as can be, or has `size` bytes; None where these are too few.
    """
    if size is not None:
        return _sized_behind(end, inodes, _whole_groups(size), content_start(size))
    groups = -(-end // BLOCKS_PER_GROUP)
    while True:
        per_group = _whole_blocks(-(-inodes // groups))
        blocks = end + groups * (per_group // INODES_PER_BLOCK) + 2 * groups
        tail = blocks % BLOCKS_PER_GROUP
        if 0 < tail < _LEAST_LAST_GROUP:
            blocks += _LEAST_LAST_GROUP - tail
        if per_group <= BLOCKS_PER_GROUP and -(-blocks // BLOCKS_PER_GROUP) <= groups:
            break
        groups += 1
    tables = groups * (per_group // INODES_PER_BLOCK)
    # an inode table may ask for a group more than its blocks fill
    blocks = max(blocks, (groups - 1) * BLOCKS_PER_GROUP + _LEAST_LAST_GROUP)
    return Layout(
        blocks=blocks,
        inodes_per_group=per_group,
        inode_table=end,
        bitmaps=end + tables,
        content=content_start(None),
    )


def _sized_behind(end: int, inodes: int, blocks: int, content: int) -> Layout | None:
    groups = -(-blocks // BLOCKS_PER_GROUP)
    if not groups:
        return None
    per_group = max(_inodes_per_group(blocks), _whole_blocks(-(-inodes // groups)))
    bitmaps = end + groups * (per_group // INODES_PER_BLOCK)
    if per_group > BLOCKS_PER_GROUP or bitmaps + 2 * groups > blocks:
        return None
    return Layout(blocks=blocks, inodes_per_group=per_group, inode_table=end, bitmaps=bitmaps, content=content)


def before_content(size: int) -> Layout:
    """The layout of a writable disk of `size` bytes."""
    blocks = _whole_groups(size)
    groups = -(-blocks // BLOCKS_PER_GROUP)
    per_group = _inodes_per_group(blocks)
    bitmaps = 1 + _descriptor_blocks(blocks)
    table = bitmaps + 2 * groups
    content = table + groups * (per_group // INODES_PER_BLOCK)
    return Layout(blocks=blocks, inodes_per_group=per_group, inode_table=table, bitmaps=bitmaps, content=content)


def _whole_groups(size: int) -> int:
    """Blocks of a disk of `size` bytes, without a last group that would be too short."""
    blocks = size // BLOCK_SIZE
    tail = blocks % BLOCKS_PER_GROUP
    return blocks - tail if tail < _LEAST_LAST_GROUP and blocks > BLOCKS_PER_GROUP else blocks


def _inodes_per_group(blocks: int) -> int:
    """As many as mke2fs gives by default."""
    groups = -(-blocks // BLOCKS_PER_GROUP)
    usual = _whole_blocks(min(blocks, BLOCKS_PER_GROUP) * BLOCK_SIZE // _BYTES_PER_INODE)
    return min(usual, _MOST_INODES // groups // INODES_PER_BLOCK * INODES_PER_BLOCK)


def _whole_blocks(inodes: int) -> int:
    """Round up to what fills whole blocks of an inode table."""
    return max(-(-inodes // INODES_PER_BLOCK), 1) * INODES_PER_BLOCK


def by_group(runs: Iterable[Run]) -> dict[int, list[Run]]:
    """`runs` by the block group that they touch; one that touches several is in each of their lists."""
    found: dict[int, list[Run]] = {}
    for start, count in runs:
        if count:
            for group in range(start // BLOCKS_PER_GROUP, (start + count - 1) // BLOCKS_PER_GROUP + 1):
                found.setdefault(group, []).append((start, count))
    return found


def bitmap(first: int, end: int, runs: Iterable[Run]) -> int:
    """The bits of blocks `first` up to `end` that lie in `runs`, as one number."""
    bits = 0
    for start, count in runs:
        low, high = max(start, first), min(start + count, end)
        if low < high:
            bits |= (1 << high - low) - 1 << low - first
    return bits


def without(runs: Iterable[Run], freed: Iterable[Run]) -> list[Run]:
    """`runs` less `freed`; all of `freed` lies within them."""
    holes = sorted(freed)
    left = []
    for start, count in runs:
        position, end = start, start + count
        for hole, length in holes:
            if start <= hole < end:
                if hole > position:
                    left.append((position, hole - position))
                position = hole + length
        if position < end:
            left.append((position, end - position))
    return left
