import pytest

from disks import file, write
from propolis.disk.ext4.metadata import MetadataWriter, identity, number_inodes, recorded_size
from propolis.disk.ext4.node import Node
from propolis.disk.ext4.stream import BlockStream
from propolis.disk.ext4.structs import S_IFDIR, S_IFREG
from propolis.disk.raw import RawWriter


@pytest.mark.parametrize(("subdirectories", "links"), [(0, 2), (1, 3), (64_998, 65_000), (64_999, 1), (70_000, 1)])
def test_directories_count_their_subdirectories_as_far_as_they_can(tmp_path, subdirectories, links):
    """e2fsck wants 65000 said and 65001 not, as dir_nlink has it."""
    child, parent = Node(S_IFDIR), Node(S_IFDIR)
    parent.children = {b"%d" % number: child for number in range(subdirectories)} | {b"file": Node(S_IFREG)}
    with (tmp_path / "disk").open("w+b") as disk:
        writer = MetadataWriter(BlockStream(RawWriter(disk.fileno()), 0), identity("key"), "it")
        assert writer._link_count(parent) == links


def test_identifiers_come_from_the_key_alone():
    assert identity("a") == identity("a")
    assert identity("a").uuid != identity("b").uuid
    assert identity("a").uuid[6] >> 4 == 8
    assert identity("a").uuid[8] >> 6 == 2


def test_inodes_are_numbered_once_each_in_the_order_of_the_tree():
    root, lost_found, directory, linked = Node(S_IFDIR), Node(S_IFDIR), Node(S_IFDIR), Node(S_IFREG)
    root.children = {b"lost+found": lost_found, b"a": linked, b"d": directory}
    directory.children = {b"b": linked, b"c": Node(S_IFREG)}
    numbered = number_inodes(root, lost_found)
    assert [node.ino for node in numbered] == [11, 12, 13, 14]
    assert (root.ino, lost_found.ino, linked.ino) == (2, 11, 12)


def test_a_disk_tells_its_size_in_its_first_block(tmp_path):
    content = write(tmp_path / "disk", [file(b"f", b"x")]).read_bytes()
    assert recorded_size(content[:4096]) == len(content)
    assert recorded_size(content[:2047]) is None
    assert recorded_size(bytes(4096)) is None
