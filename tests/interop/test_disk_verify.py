"""Our judge of file systems against e2fsck: where that finds something, ours must, and nothing where it does not."""

import contextlib
import os
import random
import shutil
import subprocess
import time

import pytest

from disks import file, other, write
from propolis.disk import container
from propolis.disk.ext4.verify import faults
from propolis.errors import PropolisError
from propolis.tree import Kind

pytestmark = pytest.mark.skipif(shutil.which("e2fsck") is None, reason="e2fsck is not installed")


def judged(path):
    with contextlib.closing(container.open_disk(path)) as disk:
        return list(faults(disk))


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A disk with something of everything."""
    items = [file(b"many/%04d-%s" % (n, b"n" * 40), b"x" * (n % 3)) for n in range(600)]
    items += [
        file(b"large", *(piece for n in range(20) for piece in (b"y" * 5000, 65536))),
        file(b"plain", b"z" * 9000),
    ]
    items += [other(Kind.HARDLINK, b"linked", link=b"plain"), other(Kind.SYMLINK, b"short", link=b"target")]
    items += [other(Kind.SYMLINK, b"long", link=b"t" * 200), other(Kind.CHARACTER, b"null", device=(1, 3))]
    items += [other(Kind.DIRECTORY, b"d/e/f"), other(Kind.FIFO, b"fifo")]
    items += [
        file(b"attributes", b"a", xattrs={b"user.a": b"v" * 10}),
        file(b"more", b"a", xattrs={b"user.b": b"v" * 500}),
    ]
    return write(tmp_path_factory.mktemp("verify") / "disk", items)


def test_disks_of_ours_are_sound(disk):
    assert judged(disk) == []


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-O", "^metadata_csum"],
        ["-O", "^64bit"],
        ["-O", "^has_journal,^flex_bg"],
        ["-O", "^resize_inode,^dir_index"],
        ["-I", "128", "-O", "^metadata_csum"],
        ["-b", "1024"],
    ],
)
def test_disks_of_mke2fs_are_sound(tmp_path, options):
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    for number in range(300):
        (tree / "d" / f"a file with a long name {number}").write_bytes(b"x" * number * 37)
    (tree / "link").symlink_to("y" * 100)
    command = ["mke2fs", "-q", "-t", "ext4", *options, "-d", tree, tmp_path / "disk", "40M"]
    subprocess.run(command, check=True, capture_output=True)
    assert judged(tmp_path / "disk") == []


@pytest.mark.parametrize("seed", range(6))
def test_what_e2fsck_finds_is_found(disk, tmp_path, seed):
    """Single bytes of metadata, changed at random; changed content is nobody's business."""
    chance = random.Random(seed)
    good = disk.read_bytes()
    metadata = _metadata(disk)
    path = tmp_path / "changed"
    for _ in range(12):
        at = chance.choice(metadata) * 4096 + chance.randrange(4096)
        data = bytearray(good)
        data[at] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        e2fsck = subprocess.run(["e2fsck", "-fn", path], capture_output=True, text=True, check=False)
        try:
            found = judged(path)
        except PropolisError as error:
            found = [str(error)]
        if e2fsck.returncode:
            assert found, f"byte {at}: {e2fsck.stdout}"


def _metadata(disk):
    """Blocks that hold more than content: descriptors, directories, tables, bitmaps."""
    told = subprocess.run(["debugfs", "-R", "stat /tree/many", disk], capture_output=True, text=True, check=True).stdout
    first = int(told.split("EXTENTS:")[1].split(":")[1].split("-")[0])
    return [0, 0, 0, 1, *range(first - 3, os.stat(disk).st_size // 4096)]  # noqa: PTH116


def test_any_damage_is_survived(disk, tmp_path):
    chance = random.Random(7)
    good = disk.read_bytes()
    path = tmp_path / "changed"
    began = time.monotonic()
    for _ in range(100):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 40)):
            at = chance.choice(
                [chance.randrange(len(data)), 1024 + chance.randrange(1024), 4096 + chance.randrange(64)]
            )
            data[at] = chance.choice([0, 1, 0x7F, 0x80, 0xFF])
        path.write_bytes(data[: chance.choice([len(data), chance.randrange(len(data))])])
        with contextlib.suppress(PropolisError):
            assert len(judged(path)) <= 100
    assert time.monotonic() - began < 100
