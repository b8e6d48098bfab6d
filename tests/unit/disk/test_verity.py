import contextlib
import hashlib
import itertools
import os
import random

import pytest

from propolis.disk import c_verity, verity
from propolis.disk.raw import RawReader, RawWriter
from propolis.errors import DiskError

BLOCK = 4096


def make(path, size, writes=(), key="key"):
    """A disk of `size` bytes of content with a tree behind it; returns the root hash."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0))
    try:
        with contextlib.closing(verity.VerityWriter(RawWriter(descriptor), key)) as disk:
            for offset, *pieces in writes:
                disk.write(offset, [memoryview(piece) for piece in pieces])
            disk.finish(size, key)
    finally:
        os.close(descriptor)
    return disk.root_hash


def judge(path, size, expected=None):
    disk = RawReader(path)
    try:
        found = verity.find(disk, size)
        assert found is not None
        return list(verity.faults(disk, found, expected))
    finally:
        disk.close()


def change(path, offset):
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize(
    ("blocks", "levels"), [(1, []), (2, [1]), (128, [1]), (129, [2, 1]), (128 * 128, [128, 1]),
                           (128 * 128 + 1, [129, 2, 1])],
)  # fmt: skip
def test_the_root_lies_first_and_the_hashes_of_the_content_last(blocks, levels):
    layout = verity.plan(blocks * BLOCK)
    assert [level.blocks for level in layout.levels] == levels
    end = (blocks + 1) * BLOCK
    for level in reversed(layout.levels):
        assert level.offset == end
        end += level.blocks * BLOCK
    assert layout.size == end


def test_the_tree_of_three_blocks_worked_out_by_hand(tmp_path):
    blocks = [bytes([value]) * BLOCK for value in (1, 2, 3)]
    root = make(tmp_path / "disk", 3 * BLOCK, [(0, *blocks)])
    salt = hashlib.sha256(b"propolis verity salt key").digest()
    leaves = b"".join(hashlib.sha256(salt + block).digest() for block in blocks).ljust(BLOCK, b"\0")
    assert root == hashlib.sha256(salt + leaves).hexdigest()
    data = (tmp_path / "disk").read_bytes()
    assert data[: 3 * BLOCK] == b"".join(blocks)
    assert data[4 * BLOCK :] == leaves
    assert c_verity.verity_sb.unpack_from(data, 3 * BLOCK)[7] == 3


def test_however_the_content_is_cut_into_writes_the_tree_is_the_same(tmp_path):
    chance = random.Random(7)
    content = chance.randbytes(40 * BLOCK)
    whole = make(tmp_path / "whole", len(content), [(0, content)])
    for attempt in range(20):
        cuts = sorted({0, len(content), *(chance.randrange(len(content)) for _ in range(60))})
        pieces = [content[start:end] for start, end in itertools.pairwise(cuts)]
        writes, at = [], 0
        while pieces:
            taken, pieces = pieces[:3], pieces[3:]
            writes.append((at, *taken))
            at += sum(map(len, taken))
        assert make(tmp_path / str(attempt), len(content), writes) == whole
        assert (tmp_path / str(attempt)).read_bytes() == (tmp_path / "whole").read_bytes()


def test_what_is_never_written_counts_as_zeros_and_what_is_written_twice_as_the_last(tmp_path):
    content = bytes(BLOCK) + b"a" * 100 + bytes(BLOCK - 100) + bytes(300 * BLOCK) + b"z" * BLOCK
    whole = make(tmp_path / "whole", len(content), [(0, content)])
    last = len(content) - BLOCK
    again = [(BLOCK, b"a" * 100 + bytes(BLOCK - 100)), (last, b"z" * BLOCK)]
    assert make(tmp_path / "twice", len(content), [(BLOCK, b"b" * BLOCK), (last, b"y" * BLOCK), *again]) == whole
    writes = [(BLOCK, b"a" * 40, b"a" * 60), (last, b"z" * BLOCK)]
    assert make(tmp_path / "holes", len(content), writes) == whole


def test_a_write_that_begins_inside_a_block_is_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="inside a block"):
        make(tmp_path / "disk", 2 * BLOCK, [(100, b"a")])


def test_the_same_key_gives_the_same_bytes_and_another_key_others(tmp_path):
    for name, key in (("a", "key"), ("b", "key"), ("c", "other")):
        make(tmp_path / name, 200 * BLOCK, [(0, b"x" * 5000)], key)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_a_changed_byte_is_found_wherever_it_is(tmp_path):
    blocks = 129
    disk, size = tmp_path / "disk", blocks * BLOCK
    root = make(disk, size, [(0, random.Random(1).randbytes(size))])
    layout = verity.plan(size)
    assert judge(disk, size, root) == judge(disk, size, root.upper()) == judge(disk, size) == []
    for offset, expected in (
        (0, ["dm-verity: block 0 differs from its hash"]),
        (size - 1, ["dm-verity: block 128 differs from its hash"]),
        (layout.levels[0].offset + 32, ["dm-verity: hash block of level 0 0 differs", "dm-verity: block 1 differs"]),
        (layout.levels[0].offset + 100 + BLOCK, ["dm-verity: hash block of level 0 1 differs"]),
        (layout.levels[1].offset, ["dm-verity: the root hash is", "dm-verity: hash block of level 0 0 differs"]),
    ):
        change(disk, offset)
        found = judge(disk, size, root)
        assert len(found) == len(expected)
        assert all(line.startswith(start) for line, start in zip(found, expected, strict=True))
        change(disk, offset)
    assert judge(disk, size, "0" * 64)


def test_no_more_than_a_hundred_faults_are_told(tmp_path):
    make(tmp_path / "disk", 300 * BLOCK)
    with (tmp_path / "disk").open("r+b") as file:
        file.write(b"x" * 300 * BLOCK)
    assert len(judge(tmp_path / "disk", 300 * BLOCK)) == verity.MOST_FAULTS


def test_a_damaged_superblock_is_an_error_and_none_is_none(tmp_path):
    disk, size = tmp_path / "disk", 2 * BLOCK
    make(disk, size)
    for offset in (8, 12, 32, 64, 68, 72, 81):
        change(disk, size + offset)
        with pytest.raises(DiskError):
            judge(disk, size)
        change(disk, size + offset)
    reader = RawReader(disk)
    assert [verity.find(reader, other) for other in (0, BLOCK, 100, 4 * BLOCK, 1 << 40)] == [None] * 5
    reader.close()
    os.truncate(disk, size + BLOCK)
    with pytest.raises(DiskError):
        judge(disk, size)
