import pytest

from propolis.disk.checksum import crc32c
from propolis.disk.ext4 import inodes, structs
from propolis.disk.ext4.inodes import InodeBlocks
from propolis.disk.ext4.node import Node
from propolis.disk.ext4.structs import S_IFREG


@pytest.mark.parametrize(("subdirectories", "links"), [(0, 2), (1, 3), (64_998, 65_000), (64_999, 1), (70_000, 1)])
def test_directories_count_their_subdirectories_as_far_as_they_can(subdirectories, links):
    """e2fsck wants 65000 said and 65001 not, as dir_nlink has it."""
    assert inodes.directory_links(subdirectories) == links


def test_both_ways_to_pack_an_inode_give_the_same_bytes():
    """One extent is packed at once; the same extent told as a tree's root goes the long way."""
    node = Node(S_IFREG | 0o640, 70_000, 1 << 31, -1_500_000_000)
    node.ino, node.links, node.size = 12, 3, 5000
    node.extents = ((0, 0x1_2345_6789, 2),)
    fast = inodes.table([node], 12, 7, InodeBlocks())
    blocks = InodeBlocks()
    blocks.maps[12] = (structs.extent_header.pack(0xF30A, 1, 4, 0, 0) + structs.extent.pack(0, 2, 1, 0x23456789), 0)
    assert inodes.table([node], 12, 7, blocks) == fast


def test_the_checksum_covers_number_and_record():
    node = Node(S_IFREG | 0o644)
    node.ino, node.links = 12, 1
    record = inodes.table([node], 12, 7, InodeBlocks())
    blank = bytearray(record)
    blank[0x7C:0x7E] = blank[0x82:0x84] = bytes(2)
    stored = int.from_bytes(record[0x7C:0x7E], "little") | int.from_bytes(record[0x82:0x84], "little") << 16
    assert stored == crc32c(crc32c(7, (12).to_bytes(8, "little")), bytes(blank))
    assert stored != int.from_bytes(inodes.table([node], 13, 7, InodeBlocks())[0x7C:0x7E], "little")


def test_free_inodes_are_zeros_and_reserved_ones_have_a_checksum():
    made = inodes.table([None] * 20, 1, 123456, InodeBlocks())
    assert all(any(made[256 * n + 0x7C : 256 * n + 0x7E]) for n in range(10))
    assert not any(made[2560:])
