from unittest import mock

import pytest

from propolis.disk.checksum import crc32c
from propolis.disk.ext4 import directory
from propolis.disk.ext4.half_md4 import hashes
from propolis.disk.ext4.node import Node
from propolis.disk.ext4.order import Opened
from propolis.disk.ext4.structs import S_IFREG, dir_entry, dx_entry

SEED = bytes(range(16))


def made(names):
    children = {}
    for number, name in enumerate(names):
        children[name] = Node(S_IFREG)
        children[name].ino = 12 + number
    blocks, indexed = directory.build(Opened(2, 2, children, []), 5, SEED)
    return list(blocks), indexed


def entries(block):
    at = 0
    while at < len(block) - 12:
        ino, length, name_length, kind = dir_entry.unpack_from(block, at)
        assert length % 4 == 0
        assert length >= 8 + name_length
        yield block[at + 8 : at + 8 + name_length], ino, kind
        at += length
    assert at == len(block) - 12, "the last entry reaches up to the checksum"


def index(block, head):
    """The index in a block: from which hash on, in which block."""
    limit, count = (int.from_bytes(block[head + at : head + at + 2], "little") for at in (0, 2))
    found = [dx_entry.unpack_from(block, head + 8 * number) for number in range(count)]
    assert head + 8 * limit + 8 == len(block)
    assert block[-8:-4] == bytes(4)
    assert int.from_bytes(block[-4:], "little") == crc32c(crc32c(5, block[: head + 8 * count]), bytes(8))
    return [(0, found[0][1]), *found[1:]]


def numbered(count, length):
    names = [str(number).encode().rjust(length, b"x")[-length:] for number in range(count)]
    return list(dict.fromkeys(names))


@pytest.mark.parametrize("length", [1, 4, 5, 255])
@pytest.mark.parametrize("count", [0, 1, 14])
def test_names_that_fit_into_a_block_are_there_once_and_in_order(length, count):
    names = numbered(count, length)
    (block,), indexed = made(names)
    assert not indexed
    found = list(entries(block))
    assert found[:2] == [(b".", 2, 2), (b"..", 2, 2)]
    assert found[2:] == [(name, 12 + number, 1) for number, name in enumerate(names)]


@pytest.mark.parametrize(("count", "length"), [(16, 255), (500, 4), (700, 30), (40_000, 9), (9_000, 255)])
def test_many_names_are_found_through_the_index_alone(count, length):
    names = numbered(count, length)
    blocks, indexed = made(names)
    assert indexed
    levels = blocks[0][0x1E]
    leaves = index(blocks[0], 0x20)
    if levels:
        # the first entry of a node has no hash of its own: it is the one that the root has for the node
        leaves = [
            entry for at, node in leaves for entry in [(at, index(blocks[node], 8)[0][1]), *index(blocks[node], 8)[1:]]
        ]
    assert [at for at, _ in leaves] == sorted(at for at, _ in leaves)
    assert 1 + len(leaves) + (len(index(blocks[0], 0x20)) if levels else 0) == len(blocks)
    inodes = {name: 12 + number for number, name in enumerate(names)}
    found = set()
    for number, (at, block) in enumerate(leaves):
        until = leaves[number + 1][0] if number + 1 < len(leaves) else 1 << 32
        some = list(entries(blocks[block]))
        for major, _ in hashes([name for name, _, _ in some], SEED):
            assert at & ~1 <= major <= until
        assert all(inodes[name] == ino for name, ino, _ in some)
        found |= {name for name, _, _ in some}
    assert found == set(names)


def test_an_index_has_two_levels_when_one_does_not_hold_it():
    assert made(numbered(3_000, 255))[0][0][0x1E] == 0
    assert made(numbered(9_000, 255))[0][0][0x1E] == 1


def test_more_leaves_than_two_levels_hold_are_linear(monkeypatch):
    monkeypatch.setattr(directory, "_IN_ROOT", 2)
    monkeypatch.setattr(directory, "_IN_NODE", 2)
    names = numbered(100, 255)
    blocks, indexed = made(names)
    assert not indexed
    assert [name for block in blocks for name, _, _ in entries(block)] == [b".", b"..", *names]


def test_names_of_one_hash_in_two_leaves_are_marked(monkeypatch):
    monkeypatch.setattr(
        directory.half_md4, "hashes", lambda names, _seed: [(8, number) for number in range(len(names))]
    )
    blocks, _ = made(numbered(40, 255))
    assert [at for at, _ in index(blocks[0], 0x20)] == [0, 9, 9]


def test_each_leaf_ends_with_its_checksum():
    blocks, _ = made([b"n%d" % number for number in range(1000)])
    for block in blocks[1:]:
        assert len(block) == 4096
        assert block[-12:-4] == bytes([0, 0, 0, 0, 12, 0, 0, 0xDE])
        assert int.from_bytes(block[-4:], "little") == crc32c(5, block[:-12])


@pytest.mark.parametrize(("count", "length"), [(500, 4), (40_000, 9), (9_000, 255)])
def test_names_that_are_sorted_apart_give_the_same_blocks(count, length):
    names = numbered(count, length)
    expected = made(names)
    with (
        mock.patch.object(directory, "MOST_AT_ONCE", count - 1),
        mock.patch.object(directory, "_COMPRESSED_AT_ONCE", 100),
    ):
        assert made(names) == expected


def test_more_names_than_an_index_holds_are_linear_however_they_were_sorted():
    names = numbered(2_000, 255)
    with mock.patch.object(directory, "_IN_ROOT", 3), mock.patch.object(directory, "_IN_NODE", 20):
        expected = made(names)
        with mock.patch.object(directory, "MOST_AT_ONCE", 1):
            assert made(names) == expected
    assert not expected[1]
    assert [name for block in expected[0] for name, _, _ in entries(block)] == [b".", b"..", *names]
