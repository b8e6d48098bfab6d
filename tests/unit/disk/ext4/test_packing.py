import pytest

from propolis.disk.ext4.node import Node
from propolis.disk.ext4.packing import Packing
from propolis.disk.ext4.structs import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG

SHOWN = [name for name in Node.__slots__ if name not in ("children", "packed", "parent")]


def node(mode, **attributes):
    made = Node(mode, 1000, 3_000_000_000, -5)
    made.links = 1
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


NODES = {
    "empty": node(S_IFREG | 0o4755),
    "plain": node(S_IFREG, size=5000, extents=((0, 77, 2),)),
    "attributes": node(S_IFREG, size=1, extents=((0, 77, 1),), xattrs={b"user.a": b"1", b"user.b": b"2"}),
    "far": node(S_IFREG, size=5000, extents=((0, 1 << 40, 2),)),
    "large": node(S_IFREG, size=(5 << 30) + 1, extents=((0, 77, (5 << 18) + 1),)),
    "hole": node(S_IFREG, size=1 << 42),
    "sparse": node(S_IFREG, size=1 << 30, extents=((3, 77, 2), (1000, 79, 1))),
    "late start": node(S_IFREG, size=8192, extents=((1, 77, 1),)),
    "linked": node(S_IFREG, links=3, size=5, extents=((0, 77, 1),)),
    "short link": node(S_IFLNK | 0o777, link=b"x", size=1),
    "long link": node(S_IFLNK | 0o777, link=b"x" * 4095, size=4095),
    "character": node(S_IFCHR, device=(4095, 0xFFFFF)),
    "block": node(S_IFBLK | 0o660, device=(259, 300)),
    "fifo": node(S_IFIFO),
    "time": node(S_IFREG, mtime_ns=1 << 80),
}


@pytest.mark.parametrize("what", NODES)
def test_an_inode_comes_back_as_it_was(what):
    packing, directory = Packing(), Node(S_IFDIR)
    name = what.encode() * 20
    directory.children = {b"before": node(S_IFREG), name: NODES[what], b"\xff" * 255: node(S_IFREG)}
    packing.pack(directory)
    assert (directory.children, directory.packed) == ({}, 1)
    assert packing.open(directory) == 3
    assert list(directory.children) == [b"before", name, b"\xff" * 255]
    back = directory.children[name]
    assert {slot: getattr(back, slot) for slot in SHOWN} == {slot: getattr(NODES[what], slot) for slot in SHOWN}


def test_an_inode_with_two_names_stays_one():
    packing, one, other = Packing(), Node(S_IFDIR), Node(S_IFDIR)
    one.children, other.children = {b"a": NODES["linked"]}, {b"b": NODES["linked"]}
    packing.pack(one)
    packing.pack(other)
    packing.open(other)
    packing.open(one)
    assert one.children[b"a"] is other.children[b"b"]


def test_directories_are_packed_in_one_another_and_opened_one_by_one():
    packing, above, below = Packing(), Node(S_IFDIR), node(S_IFDIR | 0o711, xattrs={b"user.a": b"1"})
    above.children, below.children = {b"d": below}, {b"f": NODES["plain"]}
    packing.pack(below)
    packing.pack(above)
    packing.open(above)
    back = above.children[b"d"]
    assert back is not below
    assert (back.mode, back.xattrs, back.parent, back.children) == (S_IFDIR | 0o711, {b"user.a": b"1"}, above, {})
    packing.open(back)
    assert back.children[b"f"].extents == ((0, 77, 2),)


def test_a_place_that_was_opened_is_used_again():
    packing, directory = Packing(), Node(S_IFDIR)
    for number in range(5):
        packing.pack(directory)
        assert directory.packed == 1, number
        packing.open(directory)


def test_a_whiteout_stays_one():
    packing, directory, whiteout = Packing(), Node(S_IFDIR), Node(S_IFCHR)
    whiteout.whiteout, whiteout.links = True, 1
    directory.children = {b"gone": whiteout}
    packing.pack(directory)
    packing.open(directory)
    back = directory.children[b"gone"]
    assert (back.whiteout, back.mode, back.device, back.links) == (True, S_IFCHR, (0, 0), 1)
