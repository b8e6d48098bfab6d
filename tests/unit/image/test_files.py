import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from propolis.errors import ImageError, ImageInvalid, ImageNotFound
from propolis.image.files import DirectoryFiles, has_file, mode_of, read_all
from propolis.image.tar_files import TarFiles, open_archive


def write_tar(path, items):
    with tarfile.open(path, "w") as tar:
        for name, content in items:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def test_members_are_read_in_place_and_the_last_of_a_name_counts(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("./x", b"old"), ("big", bytes(100_000)), ("x", b"new"), ("d/link", "../x")])
    files = TarFiles(path)
    assert read_all(files, "x", 10) == read_all(files, "d/link", 10) == b"new"
    file, size = files.open("big")
    with file:
        assert size == 100_000
        assert file.read() == bytes(100_000)
    assert "d/link" in files
    assert "y" not in files


def test_a_loop_of_links_leads_nowhere(tmp_path):
    files = TarFiles(write_tar(tmp_path / "a.tar", [("a", "b"), ("b", "a")]))
    with pytest.raises(ImageNotFound, match="no a in"):
        files.open("a")


def test_a_tar_compressed_as_a_whole_is_read_from_a_copy_that_goes(tmp_path):
    path, spool = tmp_path / "a.tar.gz", tmp_path / "spool"
    path.write_bytes(gzip.compress(write_tar(tmp_path / "a.tar", [("a", b"x" * 5000)]).read_bytes()))
    files = open_archive(path, spool)
    assert read_all(files, "a", 5000) == b"x" * 5000
    assert files.where == str(path)
    assert len(list(spool.iterdir())) == 1
    files.close()
    files.close()
    assert not list(spool.iterdir())


def test_an_uncompressed_tar_is_not_copied(tmp_path):
    open_archive(write_tar(tmp_path / "a.tar", [("a", b"x")]), tmp_path / "spool")
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize("data", [gzip.compress(b"x" * 5000)[:-9], gzip.compress(b"no tar" * 200), b"\x1f\x8bxxxx"])
def test_a_copy_that_is_no_tar_is_removed_at_once(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(ImageInvalid):
        open_archive(tmp_path / "a", tmp_path / "spool")
    assert not list((tmp_path / "spool").glob("*"))


def test_a_truncated_tar_is_refused(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a", bytes(5000))])
    os.truncate(path, 3000)
    with pytest.raises(ImageInvalid, match="truncated"):
        TarFiles(path)


def test_large_and_missing_files_are_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    files = DirectoryFiles(tmp_path)
    assert read_all(files, "x", 5) == b"12345"
    with pytest.raises(ImageInvalid, match="larger than 4 bytes"):
        read_all(files, "x", 4)
    with pytest.raises(ImageNotFound, match="there is no y in"):
        files.open("y")
    with pytest.raises(ImageNotFound, match="there is no x/y in"):
        files.open("x/y")


def test_what_no_file_can_be_called_is_not_there(tmp_path):
    for name in ("none", "x" * 5000, "a\0b"):
        assert mode_of(tmp_path / name) == 0
        assert not has_file(tmp_path, name)


def test_what_may_not_be_looked_at_says_so(tmp_path, monkeypatch):
    def refused(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refused)
    with pytest.raises(ImageError, match="Permission denied"):
        mode_of(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_a_fifo_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x")
    with pytest.raises(ImageNotFound, match="not a regular file"):
        DirectoryFiles(tmp_path).open("x")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_says_so(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    (tmp_path / "x").chmod(0)
    with pytest.raises(ImageError, match="cannot read"):
        DirectoryFiles(tmp_path).open("x")
