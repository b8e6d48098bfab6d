import pytest

from propolis.disk.checksum import crc32c
from propolis.disk.ext4 import extents
from propolis.disk.ext4.structs import EXT_INIT_MAX_LEN, extent, extent_header, extent_idx


def leaves(node, blocks, first_block):
    """The extents of a tree, read independently; indices must tell where what is below them begins."""
    magic, count, most, depth, _ = extent_header.unpack_from(node)
    assert magic == 0xF30A
    assert count <= most == (len(node) - 12) // 12 or count <= most == 4
    for index in range(count):
        if depth == 0:
            logical, length, high, low = extent.unpack_from(node, 12 + 12 * index)
            yield logical, high << 32 | low, length
        else:
            logical, low, high, _ = extent_idx.unpack_from(node, 12 + 12 * index)
            below = list(leaves(blocks[(high << 32 | low) - first_block], blocks, first_block))
            assert below[0][0] == logical
            yield from below


@pytest.mark.parametrize(
    ("count", "blocks"), [(0, 0), (1, 0), (4, 0), (5, 1), (340, 1), (341, 2), (1360, 4), (1361, 6), (115_601, 341 + 2)]
)
def test_trees_of_any_height_hold_all_extents(count, blocks):
    given = [(2 * number, 5_000_000_000 + 3 * number, 1 + number % 2) for number in range(count)]
    root, made = extents.build(given, 1000, seed=7)
    assert len(made) == blocks
    assert list(leaves(root, made, 1000)) == given
    assert all(crc32c(7, block[:-4]) == int.from_bytes(block[-4:], "little") for block in made)
    if not blocks:
        assert extents.root(given) == root


def test_long_extents_are_split_where_one_record_ends():
    most = EXT_INIT_MAX_LEN
    assert extents.split([(5, 100, 2 * most + 1), (90_000, 7, most)]) == [
        (5, 100, most),
        (5 + most, 100 + most, most),
        (5 + 2 * most, 100 + 2 * most, 1),
        (90_000, 7, most),
    ]
