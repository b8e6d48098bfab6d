import contextlib

import pytest

from disks import file, other, read, write
from propolis.disk.ext4.reader import Reader
from propolis.errors import DiskError
from propolis.tree import Kind


def test_attributes_that_need_the_high_fields(tmp_path):
    disk = write(
        tmp_path / "disk",
        [
            file(b"f", b"a", 5 << 30, b"b", uid=0x12345678, gid=0x9ABCDEF0, mtime_ns=(1 << 33) * 10**9 + 7),
            file(b"g", xattrs={b"user.a": b"x" * 500, b"trusted.b": b""}),
        ],
    )
    with contextlib.closing(Reader(disk)) as reader:
        root = reader.children(2)[b"tree"]
        inode = reader.inode(reader.children(root)[b"f"])
        assert (inode.uid, inode.gid, inode.mtime_ns) == (0x12345678, 0x9ABCDEF0, (1 << 33) * 10**9 + 7)
        assert inode.size == (5 << 30) + 2
        assert sum(piece if isinstance(piece, int) else len(piece) for piece in reader.content(inode)) == inode.size
        other_inode = reader.inode(reader.children(root)[b"g"])
        assert reader.xattrs(other_inode) == {b"user.a": b"x" * 500, b"trusted.b": b""}


def test_links_short_and_long_devices_and_many_extents(tmp_path):
    pieces = [piece for number in range(700) for piece in (b"%d" % number, 8190)]
    found = read(
        write(
            tmp_path / "disk",
            [
                other(Kind.SYMLINK, b"s", link=b"t" * 59),
                other(Kind.SYMLINK, b"l", link=b"t" * 60),
                other(Kind.CHARACTER, b"c", device=(4, 65)),
                other(Kind.BLOCK, b"b", device=(300, 70000)),
                file(b"m", *pieces),
            ],
        )
    )
    assert (len(found[b"s"][1]), len(found[b"l"][1])) == (59, 60)
    assert (found[b"c"][0].device, found[b"b"][0].device) == ((4, 65), (300, 70000))
    assert found[b"m"][1] == b"".join(piece if isinstance(piece, bytes) else bytes(piece) for piece in pieces)


@pytest.mark.parametrize("content", [b"", b"x" * 1500, bytes(1 << 16)])
def test_what_is_no_file_system_is_a_disk_error(tmp_path, content):
    (tmp_path / "disk").write_bytes(content)
    with pytest.raises(DiskError, match="holds no ext4"):
        Reader(tmp_path / "disk")


def test_a_cut_disk_is_a_disk_error(tmp_path):
    disk = write(tmp_path / "disk", [file(b"f", b"x")])
    disk.write_bytes(disk.read_bytes()[:8192])
    with contextlib.closing(Reader(disk)) as reader, pytest.raises(DiskError, match="damaged") as caught:
        reader.children(2)
    assert caught.value.hint
