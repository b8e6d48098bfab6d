import contextlib
import sys

import pytest

from disks import file, other, write
from propolis.disk.ext4.reader import Reader
from propolis.disk.ext4.structs import EXT4_ROOT_INO
from propolis.disk.writable import LEAST_SIZE, MOST_SIZE, make_writable
from propolis.errors import InvalidArgument
from propolis.spec import DiskFormat
from propolis.tree import Kind


def test_it_holds_directories_for_overlayfs_and_the_files(tmp_path):
    make_writable(tmp_path / "disk", DiskFormat.RAW, {"a": b"content" * 1000, "b": b""})
    with contextlib.closing(Reader(tmp_path / "disk")) as reader:
        names = reader.children(EXT4_ROOT_INO)
        assert set(names) == {b"lost+found", b"upper", b"work", b"a", b"b"}
        modes = {name: reader.inode(number).mode for name, number in names.items()}
        assert (modes[b"upper"], modes[b"work"], modes[b"a"]) == (0o040755, 0o040700, 0o100600)
        assert b"".join(reader.content(reader.inode(names[b"a"]))) == b"content" * 1000


def test_it_is_private_replaces_what_was_there_and_costs_little(tmp_path):
    path = tmp_path / "disk"
    for _ in range(2):
        make_writable(path, DiskFormat.RAW, {}, size=8 << 30)
    status = path.stat()
    assert status.st_size == 8 << 30
    if sys.platform != "win32":
        assert status.st_mode & 0o777 == 0o600
        assert status.st_blocks * 512 < 200_000
    assert [entry.name for entry in tmp_path.iterdir()] == ["disk"]


@pytest.mark.parametrize("size", [-1, 0, 4096, LEAST_SIZE - 1, MOST_SIZE + 1, 1 << 60])
def test_sizes_that_make_no_sense_are_refused(tmp_path, size):
    with pytest.raises(InvalidArgument) as caught:
        make_writable(tmp_path / "disk", DiskFormat.RAW, {}, size=size)
    assert "16 MiB" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_files_that_it_has_no_room_for_are_refused(tmp_path):
    with pytest.raises(InvalidArgument):
        make_writable(tmp_path / "disk", DiskFormat.RAW, {"large": bytes(9 << 20)}, size=LEAST_SIZE)


def test_the_upper_directory_is_like_the_root_that_the_layers_show(tmp_path):
    root = other(Kind.DIRECTORY, b"", mode=0o700, uid=7, gid=70_000, mtime_ns=5, xattrs={b"user.a": b"b"})
    write(tmp_path / "bottom", [root])
    write(tmp_path / "top", [file(b"f", b"")])  # does not mention the root
    make_writable(tmp_path / "disk", DiskFormat.RAW, {}, layers=[tmp_path / "bottom", tmp_path / "top"])
    with contextlib.closing(Reader(tmp_path / "disk")) as reader:
        upper = reader.inode(reader.children(EXT4_ROOT_INO)[b"upper"])
        assert (upper.mode, upper.uid, upper.gid, upper.mtime_ns) == (0o040700, 7, 70_000, 5)
        assert reader.xattrs(upper) == {b"user.a": b"b"}
