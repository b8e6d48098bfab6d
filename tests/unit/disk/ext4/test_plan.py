import random
from itertools import pairwise

import pytest

from propolis.disk.ext4.plan import (
    before_content,
    behind_content,
    bitmap,
    by_group,
    content_start,
    without,
)
from propolis.disk.ext4.structs import BLOCKS_PER_GROUP

LAYER_CONTENT = content_start(None)
DESCS_PER_BLOCK = 4096 // 32
CHANCE = random.Random(1)
EDGES = [BLOCKS_PER_GROUP * groups + delta for groups in (1, 2, 130) for delta in range(-70, 3)]
ENDS = [LAYER_CONTENT, 50, *EDGES, *(CHANCE.randrange(20, 1 << 24) for _ in range(60))]


def check(layout):
    """What holds of every file system."""
    runs = sorted(layout.metadata)
    assert all(start + count <= following for (start, count), (following, _) in pairwise(runs))
    assert layout.groups == -(-layout.blocks // BLOCKS_PER_GROUP)
    assert max(start + count for start, count in runs) <= layout.blocks
    first, end = layout.group_range(layout.groups - 1)
    assert end == layout.blocks
    assert end - first >= 64
    assert layout.inodes_per_group % 16 == 0
    assert 0 < layout.inodes_per_group <= BLOCKS_PER_GROUP


@pytest.mark.parametrize("inodes", [11, 500, 32768, 32769, 1_000_000])
def test_a_layers_metadata_fits_behind_any_content(inodes):
    for end in ENDS:
        layout = behind_content(end, inodes)
        check(layout)
        assert layout.inode_table == end
        assert layout.groups * layout.inodes_per_group >= inodes
        assert layout.descriptor_blocks <= LAYER_CONTENT - 1


def test_a_machines_metadata_lies_in_front():
    for size in [16 << 20, *(blocks * 4096 for blocks in EDGES), 8 << 30, 1 << 40]:
        layout = before_content(size)
        check(layout)
        assert max(start + count for start, count in layout.metadata) == layout.content
        assert size - 64 * 4096 < layout.blocks * 4096 <= size
        assert layout.descriptor_blocks * DESCS_PER_BLOCK >= layout.groups


@pytest.mark.parametrize("size", [1 << 30, 8 << 30, 1 << 40, 16 << 40, 64 << 40])
@pytest.mark.parametrize("inodes", [11, 100_000])
def test_a_chosen_size_gives_room_behind_the_content(size, inodes):
    start = content_start(size)
    layout = behind_content(start + 1000, inodes, size)
    check(layout)
    assert layout.blocks * 4096 == size
    assert layout.descriptor_blocks < start
    assert layout.groups * layout.inodes_per_group >= inodes
    assert layout.groups * layout.inodes_per_group < 1 << 32


def test_a_size_that_is_too_small_gives_no_layout():
    assert behind_content(5000, 11, 4096 * 4000) is None
    assert behind_content(5000, 11, 4096 * 5001) is None
    assert behind_content(5000, 1_000_000, 4096 * 6000) is None
    assert behind_content(5000, 11, 4096 * 6000) is not None


def test_a_bitmap_has_the_bits_of_the_runs_that_lie_in_it():
    assert bitmap(10, 20, [(0, 12), (15, 1), (18, 100), (30, 5)]) == 0b1100100011


def test_a_run_is_told_to_each_group_that_it_touches():
    size = BLOCKS_PER_GROUP
    assert by_group([(0, 1), (size - 1, 2), (3 * size, size), (7, 0)]) == {
        0: [(0, 1), (size - 1, 2)],
        1: [(size - 1, 2)],
        3: [(3 * size, size)],
    }


def test_what_is_freed_is_taken_out_of_runs():
    assert without([(0, 100)], []) == [(0, 100)]
    assert without([(0, 100)], [(50, 10), (0, 5), (60, 1), (99, 1)]) == [(5, 45), (61, 38)]
    assert without([(0, 10)], [(0, 10)]) == []
