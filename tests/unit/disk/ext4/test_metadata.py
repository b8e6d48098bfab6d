from propolis.disk.ext4.metadata import number_inodes
from propolis.disk.ext4.node import Node
from propolis.disk.ext4.structs import S_IFDIR, S_IFREG


def test_inodes_are_numbered_once_each_in_the_order_of_the_tree():
    root, lost_found, directory, linked = Node(S_IFDIR), Node(S_IFDIR), Node(S_IFDIR), Node(S_IFREG)
    root.children = {b"lost+found": lost_found, b"a": linked, b"d": directory}
    directory.children = {b"b": linked, b"c": Node(S_IFREG)}
    numbered = number_inodes(root, lost_found)
    assert [node.ino for node in numbered] == [11, 12, 13, 14]
    assert (root.ino, lost_found.ino, linked.ino) == (2, 11, 12)
