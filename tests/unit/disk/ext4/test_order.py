from propolis.disk.ext4.node import Node
from propolis.disk.ext4.order import InodeOrder
from propolis.disk.ext4.packing import Packing
from propolis.disk.ext4.structs import S_IFDIR, S_IFREG


def linked(*names):
    node = Node(S_IFREG | 0o644)
    node.links = len(names)
    return dict.fromkeys(names, node)


def tree(packing=None):
    root, lost_found, directory, deep = (Node(S_IFDIR) for _ in range(4))
    shared = linked(b"a", b"b")
    deep.children = linked(b"last")
    directory.children = {b"b": shared[b"b"], b"c": linked(b"c")[b"c"], b"deep": deep}
    root.children = {b"lost+found": lost_found, b"a": shared[b"a"], b"d": directory}
    if packing is not None:
        packing.pack(deep)
        packing.pack(directory)
    return root, lost_found


def told(order):
    return [
        (opened.ino, opened.parent, {name: node.ino for name, node in opened.children.items()}, len(opened.new))
        for opened in order
    ]


EXPECTED = [
    (2, 2, {b"lost+found": 11, b"a": 12, b"d": 13}, 2),
    (11, 2, {}, 0),
    (13, 2, {b"b": 12, b"c": 14, b"deep": 15}, 2),
    (15, 13, {b"last": 16}, 1),
]


def test_inodes_are_numbered_once_each_in_the_order_of_the_tree_however_often_it_is_asked():
    order = InodeOrder(*tree())
    assert told(order) == told(order) == EXPECTED
    assert order.last == 16


def test_what_is_packed_away_has_the_same_numbers():
    packing = Packing()
    order = InodeOrder(*tree(packing), packing)
    assert told(order) == told(order) == EXPECTED


def test_a_path_is_told_even_while_the_first_round_is_under_way():
    packing = Packing()
    order = InodeOrder(*tree(packing), packing)
    assert [[order.path(node.ino) for node in opened.new] for opened in order] == [
        ["a", "d"], [], ["d/c", "d/deep"], ["d/deep/last"],
    ]  # fmt: skip
    assert told(order) == EXPECTED
