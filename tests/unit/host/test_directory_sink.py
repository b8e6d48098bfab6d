import os
import stat
from pathlib import Path

import pytest

from propolis.errors import InvalidArgument
from propolis.host.directory_sink import MOST_LEVELS, DirectorySink
from propolis.tree import Entry, Kind


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def fill(directory, *entries, **options):
    sink = DirectorySink(directory, **options)
    try:
        for entry in entries:
            sink.entry(entry)
        sink.close()
    finally:
        sink.abandon()
    return sink


def test_files_links_and_holes_become_what_they_are(tmp_path):
    sink = DirectorySink(tmp_path)
    sink.entry(Entry(Kind.DIRECTORY, b"d", mode=0o500, mtime_ns=-5))
    sink.entry(Entry(Kind.FILE, b"d/f", mode=0o640, size=1 << 20, mtime_ns=7))
    sink.data(memoryview(b"begin"))
    sink.hole((1 << 20) - 8)
    sink.data(memoryview(b"end"))
    sink.entry(Entry(Kind.HARDLINK, b"l", link=b"d/f"))
    sink.entry(Entry(Kind.SYMLINK, b"s", link=b"../outside"))
    sink.entry(Entry(Kind.FIFO, b"p"))
    sink.close()
    assert (tmp_path / "d" / "f").read_bytes() == b"begin" + bytes((1 << 20) - 8) + b"end"
    assert (tmp_path / "l").samefile(tmp_path / "d" / "f")
    assert (tmp_path / "d" / "f").stat().st_mtime_ns == 7
    assert (tmp_path / "d").stat().st_mtime_ns == -5
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o500
    assert (tmp_path / "s").readlink() == Path("../outside")
    assert stat.S_ISFIFO((tmp_path / "p").stat().st_mode)


def test_nothing_is_made_through_a_link(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "victim").write_text("safe")
    link = Entry(Kind.SYMLINK, b"out", link=bytes(outside))
    for hostile in (
        Entry(Kind.FILE, b"out/victim", size=0),
        Entry(Kind.DIRECTORY, b"out/made"),
        Entry(Kind.HARDLINK, b"x", link=b"out/victim"),
        Entry(Kind.SYMLINK, b"out/s", link=b"x"),
        Entry(Kind.FIFO, b"out/p"),
        Entry(Kind.FILE, b"out", size=0),
    ):
        with pytest.raises(OSError):
            fill(inside, link, hostile)
        (inside / "out").unlink()
    # as a directory it is taken for granted, but never changed or entered
    with pytest.raises(OSError):
        fill(inside, link, Entry(Kind.DIRECTORY, b"out", mode=0o777), Entry(Kind.FILE, b"out/f"))
    assert {path.name for path in outside.iterdir()} == {"victim"}
    assert (outside / "victim").read_text() == "safe"


def test_what_gives_rights_is_left_out(tmp_path):
    sink = fill(
        tmp_path,
        Entry(Kind.FILE, b"su", mode=0o6755, uid=12345, xattrs={b"user.x": b"1"}),
        Entry(Kind.CHARACTER, b"null", device=(1, 3)),
    )
    assert sink.left_out == 1
    status = (tmp_path / "su").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o755, os.geteuid())
    assert os.listxattr(tmp_path / "su") == []
    assert not (tmp_path / "null").exists()


def test_depth_is_bounded(tmp_path):
    path = b"/".join([b"d"] * (MOST_LEVELS + 2))
    with pytest.raises(InvalidArgument):
        fill(tmp_path, Entry(Kind.FILE, path))


def test_no_descriptor_stays_open(tmp_path):
    before = open_descriptors()
    with pytest.raises(OSError):
        fill(tmp_path, Entry(Kind.FILE, b"f"), Entry(Kind.FILE, b"f"))
    fill(tmp_path, Entry(Kind.DIRECTORY, b"a"), Entry(Kind.DIRECTORY, b"a/b"), Entry(Kind.FILE, b"a/b/c"))
    assert open_descriptors() == before
