import os
import socket
import sys

import pytest

from propolis.errors import ImageError, ImageInvalid, ImageNotFound
from propolis.image import rootfs
from propolis.image.rootfs import push_directory
from propolis.testing.trees import MemorySink
from propolis.tree import Kind

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links as POSIX has them")


def entries(directory, **options):
    sink = MemorySink()
    digest = push_directory(directory, sink, **options)
    return {entry.path: entry for entry in sink.entries}, digest


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    (root / "d").mkdir(parents=True, mode=0o750)
    (root / "d" / "f").write_bytes(b"content")
    (root / "d" / "f").chmod(0o640)
    os.link(root / "d" / "f", root / "e")
    (root / "l").symlink_to("/absolute")
    os.mkfifo(root / "p")
    os.utime(root / "d" / "f", ns=(1, 1_234_567_890_123_456_789))
    return root


def test_everything_is_told_parents_first_in_the_order_of_names(tree):
    found, _ = entries(tree)
    assert list(found) == [b"", b"d", b"d/f", b"e", b"l", b"p"]
    assert [entry.kind for entry in found.values()] == [
        Kind.DIRECTORY,
        Kind.DIRECTORY,
        Kind.FILE,
        Kind.HARDLINK,
        Kind.SYMLINK,
        Kind.FIFO,
    ]
    file = found[b"d/f"]
    assert (file.mode, file.size, file.mtime_ns) == (0o640, 7, 1_234_567_890_123_456_789)
    assert (file.uid, file.gid) == (os.getuid(), os.getgid())
    assert found[b"e"].link == b"d/f"
    assert found[b"l"].link == b"/absolute"


def test_the_digest_stands_for_content_and_attributes(tree):
    before = entries(tree)[1]
    assert entries(tree)[1] == before
    (tree / "d" / "f").write_bytes(b"another")
    os.utime(tree / "d" / "f", ns=(1, 1_234_567_890_123_456_789))
    changed = entries(tree)[1]
    assert changed != before
    (tree / "d").chmod(0o711)
    assert entries(tree)[1] not in (before, changed)


def test_sockets_are_left_out_and_told(tree, monkeypatch):
    class Notices:
        told = []

        def notice(self, text):
            self.told.append(text)

        def begin(self, *_):
            pass

        advance = end = begin

    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tree)  # a socket's path may not be long
        listening.bind("s")
        assert b"s" not in entries(tree, reporter=Notices())[0]
    assert len(Notices.told) == 1


def test_holes_are_kept(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.seek(8 << 20)
        file.write(b"end")
        file.truncate(20 << 20)

    class Holes(MemorySink):
        passed = 0

        def hole(self, length):
            self.passed += length

    sink = Holes()
    push_directory(tmp_path, sink)
    assert sink.passed > 19 << 20


def test_a_file_that_grows_or_shrinks_while_it_is_read(tree, monkeypatch):
    whole = os.read
    for change in (b"more than before", b""):

        def changing(descriptor, length, change=change):
            (tree / "d" / "f").write_bytes(change)
            return whole(descriptor, length)

        (tree / "d" / "f").write_bytes(b"content")
        monkeypatch.setattr(rootfs.os, "read", changing)
        with pytest.raises(ImageInvalid, match="changed while it was read"):
            entries(tree)
        monkeypatch.undo()


def test_what_is_not_there_or_cannot_be_read(tree, monkeypatch):
    with pytest.raises(ImageNotFound, match="is not a directory"):
        entries(tree / "e")

    def refused(path, *_):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(rootfs.os, "open", refused)
    with pytest.raises(ImageError, match=r"cannot read .*d/f: Permission denied"):
        entries(tree)
