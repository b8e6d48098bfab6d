import os
from itertools import pairwise

import pytest

from propolis.disk.ext4.content import ContentWriter
from propolis.disk.ext4.node import Node
from propolis.disk.ext4.stream import BlockStream
from propolis.disk.ext4.structs import S_IFREG
from propolis.disk.raw import RawWriter

BLOCK = 4096


@pytest.fixture
def write(tmp_path):
    """Writes pieces; returns the extents, and what they show."""
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0))
    stream = BlockStream(RawWriter(descriptor), 0)
    writer = ContentWriter(stream)

    def write(*pieces):
        node = Node(S_IFREG)
        writer.begin(node)
        for piece in pieces:
            if isinstance(piece, int):
                writer.hole(piece)
            else:
                writer.data(memoryview(piece))
        writer.end()
        stream.commit()
        assert stream.is_aligned
        shown = bytearray()
        for logical, physical, count in node.extents:
            shown = shown.ljust(logical * BLOCK, b"\0")
            os.lseek(descriptor, physical * BLOCK, os.SEEK_SET)
            shown += os.read(descriptor, count * BLOCK)
        return node.extents, bytes(shown)

    yield write
    os.close(descriptor)


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b"x"],
        [b"x" * BLOCK],
        [b"x" * BLOCK, b"y"],
        [b"x" * 10] * 1000,
        [b"x", BLOCK - 1, b"y"],
        [b"x", BLOCK, b"y"],
        [1, b"x", 1, b"y"],
        [BLOCK - 1, b"xy", 3 * BLOCK, b"z"],
        [b"x" * 5000, 1, b"", b"y" * 5000],
        [1, 1, 1, b"x", BLOCK, BLOCK, b"y", 10],
        [b"", 2 * BLOCK, b"x"],
    ],
)
def test_the_blocks_hold_the_pieces(write, pieces):
    expected = b"".join(piece if isinstance(piece, bytes) else bytes(piece) for piece in pieces)
    extents, shown = write(*pieces)
    assert shown.rstrip(b"\0") == expected.rstrip(b"\0")
    assert all(a[0] + a[2] <= b[0] for a, b in pairwise(extents))


def test_holes_cost_no_blocks_and_part_contiguous_extents(write):
    assert write(10 * BLOCK)[0] == ()
    assert write(b"x" * BLOCK, b"y" * BLOCK)[0] == ((0, 0, 2),)
    assert write(b"x", 3 * BLOCK, b"y")[0] == ((0, 2, 1), (3, 3, 1))
    assert write(b"x" * BLOCK, 1, b"y")[0] == ((0, 4, 2),)


def test_files_follow_each_other_block_by_block(write):
    assert write(b"x" * 5000)[0] == ((0, 0, 2),)
    assert write(b"")[0] == ()
    assert write(b"z")[0] == ((0, 2, 1),)


WINDOW = 65536


@pytest.mark.parametrize("cut", [1 << 20, WINDOW, 5000, 4096])
@pytest.mark.parametrize(
    ("content", "blocks"),
    [
        (bytes(WINDOW), 0),
        (bytes(WINDOW - 1), 0),
        (bytes(3 * WINDOW + 100), 0),
        (b"x" + bytes(3 * WINDOW), 16),
        (bytes(WINDOW) + b"x", 1),
        (bytes(100) + b"x" + bytes(WINDOW), 16),
        (b"x" * 5000 + bytes(10 * WINDOW) + b"y" * 5000, 16 + 16),
        (b"x" * WINDOW + bytes(4096) + b"y" * WINDOW, 33),
    ],
)
def test_long_runs_of_zeros_become_holes_however_they_are_cut(write, content, blocks, cut):
    extents, shown = write(*(content[at : at + cut] for at in range(0, len(content), cut)))
    assert shown.rstrip(b"\0") == content.rstrip(b"\0")
    assert sum(count for _, _, count in extents) <= blocks
