import contextlib

import pytest

from disks import file, other, write
from propolis.disk.ext4.lookup import resolve, walk
from propolis.disk.ext4.reader import Reader
from propolis.errors import DiskError
from propolis.tree import Kind


@pytest.fixture
def reader(tmp_path):
    items = [
        file(b"usr/bin/tool", b"x" * 10),
        other(Kind.SYMLINK, b"bin", link=b"usr/bin"),
        other(Kind.SYMLINK, b"absolute", link=b"/tree/usr"),
        other(Kind.SYMLINK, b"out", link=b"../../../../tree/bin"),
        other(Kind.SYMLINK, b"a", link=b"b"),
        other(Kind.SYMLINK, b"b", link=b"a"),
    ]
    with contextlib.closing(Reader(write(tmp_path / "disk", items))) as opened:
        yield opened


@pytest.mark.parametrize(
    "path",
    [
        b"tree/usr/bin/tool",
        b"/tree//usr/./bin/tool",
        b"tree/bin/tool",
        b"tree/absolute/bin/tool",
        b"tree/out/tool",
        b"../../tree/usr/../usr/bin/tool",
    ],
)
def test_every_way_to_a_file(reader, path):
    assert resolve(reader, path).size == 10


def test_the_last_link_is_followed_only_when_asked(reader):
    assert resolve(reader, b"tree/bin").mode >> 12 == 10
    assert resolve(reader, b"tree/bin/").mode >> 12 == 10
    assert resolve(reader, b"tree/bin", follow=True).mode >> 12 == 4


@pytest.mark.parametrize("path", [b"absent", b"tree/absent/x", b"tree/usr/bin/tool/x", b"tree/a/x", b"x" * 5000])
def test_what_is_not_there(reader, path):
    with pytest.raises(DiskError):
        resolve(reader, path)


def test_links_in_a_circle_end(reader):
    with pytest.raises(DiskError, match="too many symbolic links"):
        resolve(reader, b"tree/a", follow=True)


def test_a_walk_tells_every_directory_once(reader):
    found = {path: [name for name, _ in entries] for path, entries in walk(reader, resolve(reader, b"tree"), b"tree")}
    assert found == {
        b"tree": [b"a", b"absolute", b"b", b"bin", b"out", b"usr"],
        b"tree/usr": [b"bin"],
        b"tree/usr/bin": [b"tool"],
    }
