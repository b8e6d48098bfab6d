import pytest

from propolis.disk.ext4 import directory
from propolis.disk.ext4.checksum import crc32c
from propolis.disk.ext4.node import Node
from propolis.disk.ext4.structs import S_IFDIR, S_IFREG, dir_entry


def made(names):
    root = Node(S_IFDIR)
    root.ino, root.parent = 2, root
    for number, name in enumerate(names):
        root.children[name] = Node(S_IFREG)
        root.children[name].ino = 12 + number
    return directory.build(root, seed=5)


def entries(block):
    at = 0
    while at < len(block) - 12:
        ino, length, name_length, kind = dir_entry.unpack_from(block, at)
        assert length % 4 == 0
        assert length >= 8 + name_length
        yield block[at + 8 : at + 8 + name_length], ino, kind
        at += length
    assert at == len(block) - 12, "the last entry reaches up to the checksum"


@pytest.mark.parametrize("length", [1, 4, 5, 255])
@pytest.mark.parametrize("count", [0, 1, 15, 16, 339, 700])
def test_all_names_are_there_once_and_in_order(length, count):
    names = [str(number).encode().rjust(length, b"x")[-length:] for number in range(count)]
    names = list(dict.fromkeys(names))
    blocks = made(names)
    found = [entry for block in blocks for entry in entries(block)]
    assert found[:2] == [(b".", 2, 2), (b"..", 2, 2)]
    assert found[2:] == [(name, 12 + number, 1) for number, name in enumerate(names)]


def test_each_block_ends_with_its_checksum():
    for block in made([b"n%d" % number for number in range(1000)]):
        assert len(block) == 4096
        assert block[-12:-4] == bytes([0, 0, 0, 0, 12, 0, 0, 0xDE])
        assert int.from_bytes(block[-4:], "little") == crc32c(5, block[:-12])
