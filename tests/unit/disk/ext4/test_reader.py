import contextlib
from dataclasses import replace

import pytest

from disks import file, other, read, write
from propolis.disk.ext4.reader import Reader
from propolis.disk.ext4.structs import EXT_MAGIC, extent_header, extent_idx
from propolis.errors import DiskDamaged, DiskError
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


def test_an_extent_tree_that_goes_in_circles_ends(tmp_path):
    """Each of its nodes holds 340 times the next one: 340 ** 4 visits, were they not counted."""
    disk = write(tmp_path / "disk", [file(b"f", *[b"x" * 4096, 65536] * 2000)])
    with contextlib.closing(Reader(disk)) as reader:
        tree = reader.inode(reader.children(2)[b"tree"])
        inode = reader.inode(reader.children(tree.number)[b"f"])
    entry = extent_idx.pack(0, 20, 0, 0)
    hostile = replace(inode, block=extent_header.pack(EXT_MAGIC, 4, 4, 5, 0) + entry * 4)
    blocks = [extent_header.pack(EXT_MAGIC, 340, 340, depth, 0) for depth in (4, 3, 2, 1)]
    with disk.open("r+b") as opened:
        for number, head in enumerate(blocks):
            opened.seek((20 + number) * 4096)
            opened.write((head + extent_idx.pack(0, 21 + number, 0, 0) * 340).ljust(4096, b"\0"))
        opened.write(extent_header.pack(EXT_MAGIC, 0, 340, 0, 0).ljust(4096, b"\0"))
    with contextlib.closing(Reader(disk)) as reader, pytest.raises(DiskDamaged):
        list(reader.content(hostile))
