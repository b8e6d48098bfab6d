import os
from pathlib import Path

import pytest

from propolis.errors import InvalidArgument, Unsupported
from propolis.machine import mounts
from propolis.machine.mounts import check, parse_bind, parse_mount, parse_tmpfs, prepare, volumes
from propolis.spec import GuestMount, Mount, Share


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/a:/b", Mount(source=Path("/a"), target="/b")),
        ("/a:/b:ro", Mount(source=Path("/a"), target="/b", read_only=True)),
        ("./a b:/b:rw,z", Mount(source=Path("a b"), target="/b")),
        (r"C:\data:/b:ro", Mount(source=Path(r"C:\data"), target="/b", read_only=True)),
        ("d:/data:/b", Mount(source=Path("d:/data"), target="/b")),
        (".:/b", Mount(source=Path(), target="/b")),
    ],
)
def test_dockers_short_form(text, mount):
    assert parse_bind(text) == mount


def test_dockers_long_form():
    assert parse_mount("type=bind,src=/a,dst=/b,readonly") == Mount(source=Path("/a"), target="/b", read_only=True)
    assert parse_mount("type=bind,source=/a,target=/b,ro=false") == Mount(source=Path("/a"), target="/b")
    assert parse_mount("type=tmpfs,destination=/b,tmpfs-size=1m,tmpfs-mode=700") == Mount(
        type="tmpfs", target="/b", size=1 << 20, mode=0o700
    )
    assert parse_tmpfs("/t:size=64k,mode=755,ro") == Mount(
        type="tmpfs", target="/t", size=65536, mode=0o755, read_only=True
    )


@pytest.mark.parametrize("text", ["", ":/b", "/a:", "/a", "/a:/b:ro:x", "/a:/b:no"])
def test_what_is_no_mount(text):
    with pytest.raises(InvalidArgument):
        parse_bind(text)


def test_what_is_not_there_yet():
    with pytest.raises(Unsupported):
        parse_bind("name:/b")
    with pytest.raises(Unsupported):
        parse_mount("source=x,target=/b")


@pytest.mark.parametrize(
    "mount",
    [
        Mount(source=Path("/a"), target="b"),
        Mount(source=Path("/a"), target="/"),
        Mount(source=Path("/a"), target="/x/../y"),
        Mount(source=Path("/a"), target="/x\0"),
        Mount(target="/x"),
        Mount(type="tmpfs", source=Path("/a"), target="/x"),
        Mount(type="tmpfs", target="/x", size=1),
        Mount(type="tmpfs", target="/x", mode=0o10000),
    ],
)
def test_what_cannot_be_mounted(mount):
    with pytest.raises(InvalidArgument):
        check(mount)


def test_targets_are_unique_and_bounded():
    assert [mount.target for mount in volumes({"/a": "/x", Path("/b"): "/y:ro"})] == ["/x", "/y"]
    with pytest.raises(InvalidArgument):
        volumes(["/a:/x", "/b:/x/"])
    with pytest.raises(InvalidArgument):
        volumes([f"/a:/x{number}" for number in range(mounts.MOST_MOUNTS + 1)])


def test_directories_are_shared_and_single_files_linked_together(tmp_path):
    directory, one, two, own = (tmp_path / name for name in ("directory", "one", "two", "own"))
    directory.mkdir()
    own.mkdir()
    one.write_text("1")
    two.write_text("2")
    wanted = [
        Mount(source=directory, target="/d", read_only=True),
        Mount(source=one, target="/one"),
        Mount(source=two, target="/two", read_only=True),
        Mount(type="tmpfs", target="/t", size=4096),
    ]
    shares, told = prepare(wanted, own)
    assert shares == (
        Share(tag="share0", path=directory, read_only=True),
        Share(tag="files", path=own / "files"),
        Share(tag="files-ro", path=own / "files-ro", read_only=True),
    )
    assert told == (
        GuestMount(type="share", source="share0", target="/d", read_only=True),
        GuestMount(type="file", source="files/1", target="/one"),
        GuestMount(type="file", source="files-ro/2", target="/two", read_only=True),
        GuestMount(type="tmpfs", target="/t", options="mode=1777,size=4096"),
    )
    assert (own / "files" / "1").samefile(one)


def test_a_file_that_cannot_be_linked_is_copied_if_it_is_only_read(tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise OSError(18, "Invalid cross-device link")

    (tmp_path / "one").write_text("1")
    monkeypatch.setattr(os, "link", refuse)
    prepare([Mount(source=tmp_path / "one", target="/one", read_only=True)], tmp_path)
    assert (tmp_path / "files-ro" / "0").read_text() == "1"
    with pytest.raises(InvalidArgument, match="mount the file"):
        prepare([Mount(source=tmp_path / "one", target="/one")], tmp_path)
    monkeypatch.setattr(mounts, "MOST_COPY", 0)
    (tmp_path / "other").mkdir()
    with pytest.raises(InvalidArgument, match="nor copied"):
        prepare([Mount(source=tmp_path / "one", target="/one", read_only=True)], tmp_path / "other")
