"""What is free to choose about a file system, judged by e2fsck, dumpe2fs and the kernel."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from disks import NothingBelow, check, file, mounted, other, push
from propolis.disk.base import FileSystemOptions
from propolis.disk.ext4.writer import LayerWriter
from propolis.disk.raw import RawWriter
from propolis.disk.writable import make_writable
from propolis.errors import DiskError, InvalidArgument, LayerUnsupported
from propolis.spec import DiskFormat
from propolis.tree import Kind

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
ITEMS = [other(Kind.DIRECTORY, b"d"), *(file(b"d/f%03d" % n, b"x" * n) for n in range(100))]


def write(path, items=ITEMS, *, tree=b"", **options):
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        options = FileSystemOptions(**options)
        writer = LayerWriter(RawWriter(descriptor), what="it", lower=NothingBelow(), tree=tree, options=options)
        push(writer, items)
        writer.finish("key")
    finally:
        os.close(descriptor)
    return path


def facts(disk):
    told = subprocess.run(["dumpe2fs", "-h", disk], capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^([^:\n]+):\s*(.*)$", told, re.MULTILINE))


@pytest.mark.parametrize("journal", [False, True])
@pytest.mark.parametrize("size", [None, 8 << 20, 100 << 20, (8 << 30) + 5000, 1 << 40])
def test_any_size_with_and_without_a_journal(tmp_path, size, journal):
    disk = write(tmp_path / "disk", size=size, journal=journal, label="a label")
    check(disk)
    found = facts(disk)
    assert found["Filesystem volume name"] == "a label"
    assert ("has_journal" in found["Filesystem features"]) == journal
    if size is not None:
        assert size - 64 * 4096 < disk.stat().st_size <= size
        assert disk.stat().st_blocks * 512 < 8 << 20


@needs_root
@pytest.mark.parametrize("size", [16 << 40, pytest.param(64 << 40, marks=pytest.mark.heavy)])
def test_a_disk_of_more_blocks_than_32_bits_count(tmp_path, size):
    """On tmpfs, as ext4 has no files of that size."""
    with mounted(tmp_path / "large", "-t", "tmpfs", "tmpfs") as directory:
        disk = write(directory / "disk", size=size)
        assert ("64bit" in facts(disk)["Filesystem features"]) == (size >= 16 << 40)
        assert int(facts(disk)["Block count"]) == size // 4096
        check(disk)
        with mounted(tmp_path / "m", "-o", "loop", disk) as point:
            assert (point / "d" / "f007").read_bytes() == b"x" * 7
            (point / "new").write_bytes(b"y" * 5000)
        check(disk)


@needs_root
@pytest.mark.parametrize("journal", [False, True])
def test_the_kernel_fills_a_disk_with_room_and_it_stays_whole(tmp_path, journal):
    disk = write(tmp_path / "disk", size=200 << 20, journal=journal)
    with mounted(tmp_path / "m", "-o", "loop", disk) as point:
        assert sorted(path.name for path in (point / "d").iterdir()) == [f"f{n:03}" for n in range(100)]
        for number in range(3000):
            (point / "d" / f"new file number {number}").write_bytes(b"y" * 5000)
        for number in range(0, 3000, 2):
            (point / "d" / f"new file number {number}").unlink()
        (point / "large").write_bytes(os.urandom(64 << 20))
        subprocess.run(["sync", "-f", point], check=True)
    check(disk)


@needs_root
@pytest.mark.parametrize("journal", [False, True])
def test_a_machines_disk_under_load(tmp_path, journal):
    disk = tmp_path / "disk"
    make_writable(disk, DiskFormat.RAW, {"f": b"content"}, size=300 << 20, journal=journal)
    check(disk)
    assert ("has_journal" in facts(disk)["Filesystem features"]) == journal
    with mounted(tmp_path / "m", "-o", "loop", disk) as point:
        subprocess.run(["cp", "-a", "/usr/lib/python3", "/bin", "/etc", point / "upper"], check=False)
        (point / "upper" / "x").write_bytes(bytes(100 << 20))
    check(disk)


@needs_root
def test_names_of_a_large_directory_are_found_by_the_kernel_and_debugfs(tmp_path):
    names = [b"%d-%s" % (number, b"n" * (number % 200)) for number in range(20_000)]
    names += ["umlaut-ä-%d".encode() % number for number in range(50)] + [
        b"\xff\xfe%d" % number for number in range(50)
    ]
    disk = write(
        tmp_path / "disk", [other(Kind.DIRECTORY, b"d"), *(file(b"d/" + name) for name in names)], size=1 << 30
    )
    check(disk)
    told = subprocess.run(["debugfs", "-R", "htree_dump /d", disk], capture_output=True, check=True).stdout
    assert b"Indirect levels: 1" in told
    with mounted(tmp_path / "m", "-o", "loop", disk) as point:
        root = os.fsencode(point / "d")
        assert sorted(entry.name for entry in os.scandir(root)) == sorted(names)
        assert all(os.path.lexists(root + b"/" + name) for name in names)
        assert not os.path.lexists(root + b"/absent")
        for number in range(2000):
            os.close(os.open(root + b"/added-%d" % number, os.O_CREAT | os.O_WRONLY))
        for name in names[::3]:
            Path(os.fsdecode(root + b"/" + name)).unlink()
    check(disk)


@pytest.mark.parametrize("options", [{"size": 100}, {"size": 65 << 40}, {"size": -1}, {"label": "ä" * 9}])
def test_impossible_options_are_refused_before_any_work(tmp_path, options):
    with pytest.raises(InvalidArgument) as caught:
        write(tmp_path / "disk", **options)
    assert (tmp_path / "disk").stat().st_size == 0
    assert caught.value.exit_code == 125


def test_a_size_that_does_not_hold_the_content_says_what_would(tmp_path):
    items = [file(b"f", b"x" * (20 << 20))]
    with pytest.raises(InvalidArgument, match="does not fit on a disk of 8 MiB") as caught:
        write(tmp_path / "disk", items, size=8 << 20)
    enough = int(re.search(r"some (\d+) MiB", caught.value.hint)[1])
    check(write(tmp_path / "disk", items, size=enough << 20))


def test_what_is_in_the_way_of_lost_and_found_is_refused(tmp_path):
    with pytest.raises(LayerUnsupported, match=r"lost\+found"):
        write(tmp_path / "disk", [file(b"lost+found", b"x")])
    check(write(tmp_path / "disk", [other(Kind.DIRECTORY, b"lost+found", mode=0o711), file(b"lost+found/f", b"x")]))
    check(write(tmp_path / "disk", [file(b"lost+found", b"x")], tree=b"tree"))


def test_features_that_cannot_be_read_are_named(tmp_path):
    from propolis.disk.ext4.reader import Reader

    subprocess.run(["mke2fs", "-q", "-O", "inline_data,meta_bg,^resize_inode", tmp_path / "disk", "16M"], check=True)
    with pytest.raises(DiskError, match="meta_bg, inline_data"):
        Reader(tmp_path / "disk")
