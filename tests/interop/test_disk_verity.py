"""veritysetup makes the same tree, and judges ours."""

import contextlib
import os
import random
import shutil
import subprocess
import uuid

import pytest

from propolis.disk import c_verity, verity
from propolis.disk.raw import RawReader, RawWriter

BLOCK = 4096
pytestmark = pytest.mark.skipif(shutil.which("veritysetup") is None, reason="veritysetup is not installed")


def make(path, blocks, written):
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    with contextlib.closing(verity.VerityWriter(RawWriter(descriptor), "key")) as disk:
        for block, data in written.items():
            disk.write(block * BLOCK, [memoryview(data)])
        disk.finish(blocks * BLOCK, "key")
    os.close(descriptor)
    return disk.root_hash


def veritysetup(path, blocks, action, *more):
    """Run it on one file that holds content and tree."""
    command = ["veritysetup", action, path, path, f"--hash-offset={blocks * BLOCK}", f"--data-blocks={blocks}", *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def accepts(path, blocks, root):
    """Whether veritysetup, and whether we, find nothing wrong."""
    disk = RawReader(path)
    try:
        ours = not list(verity.faults(disk, verity.find(disk, blocks * BLOCK), root))
    finally:
        disk.close()
    return veritysetup(path, blocks, "verify", root).returncode == 0, ours


@pytest.mark.parametrize("blocks", [1, 2, 127, 128, 129, 128 * 128, 128 * 128 + 1])
def test_the_tree_is_the_one_that_veritysetup_makes(tmp_path, blocks):
    chance = random.Random(blocks)
    written = {chance.randrange(blocks): chance.randbytes(BLOCK) for _ in range(50)} | {0: b"a" * BLOCK}
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    root = make(ours, blocks, written)
    assert accepts(ours, blocks, root) == (True, True)
    with ours.open("rb") as file:
        file.seek(blocks * BLOCK)
        superblock = c_verity.verity_sb.unpack(file.read(512))
    shutil.copy(ours, theirs)
    os.truncate(theirs, blocks * BLOCK)
    salt, identifier = superblock[9][: superblock[8]].hex(), str(uuid.UUID(bytes=superblock[3]))
    made = veritysetup(theirs, blocks, "format", f"--salt={salt}", f"--uuid={identifier}")
    assert made.returncode == 0, made.stderr
    assert root in made.stdout
    os.truncate(theirs, ours.stat().st_size)
    with ours.open("rb") as one, theirs.open("rb") as other:
        for file in (one, other):
            file.seek(blocks * BLOCK)
        assert one.read() == other.read()


@pytest.mark.parametrize("blocks", [1, 128, 129, 128 * 128 + 1])
def test_a_flipped_byte_is_refused_by_veritysetup_and_by_us(tmp_path, blocks):
    root = make(tmp_path / "disk", blocks, {0: b"a" * BLOCK, blocks - 1: b"b" * BLOCK})
    for offset in (0, blocks * BLOCK - 1, (blocks // 2) * BLOCK, (blocks + 1) * BLOCK + 3):
        if offset >= verity.plan(blocks * BLOCK).size:
            continue
        with (tmp_path / "disk").open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ 0x40]))
        assert accepts(tmp_path / "disk", blocks, root) == (False, False)
        with (tmp_path / "disk").open("r+b") as file:
            file.seek(offset)
            file.write(byte)
    assert accepts(tmp_path / "disk", blocks, root) == (True, True)
