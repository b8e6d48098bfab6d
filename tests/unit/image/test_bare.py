"""Root file systems without an image, and what is remembered of tars so that they are not read twice."""

import gzip
import json
import os
import time
from pathlib import Path

import pytest

from propolis.errors import DigestMismatch, ImageError, ImageInvalid, ImageNotFound
from propolis.image import bare, file_state
from propolis.image.bare import open_bare
from propolis.image.digest import of
from propolis.image.layers import unpack
from propolis.image.platforms import parse_platform
from propolis.image.store import BlobStore
from propolis.testing.images import layer_tar, write_layout
from propolis.testing.trees import MemorySink

AMD64 = parse_platform("amd64")
TAR = layer_tar({"a": b"1" * 5000})


@pytest.fixture
def store(tmp_path):
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def reads(monkeypatch):
    """The files that are read whole."""
    found = []
    real = bare.pieces_of
    monkeypatch.setattr(bare, "pieces_of", lambda path: found.append(path) or real(path))
    return found


def settle(path, seconds=60):
    """Let the file be as old as most are."""
    when = time.time() - seconds
    os.utime(path, (when, when))


@pytest.fixture
def old(monkeypatch):
    """What was just written counts as old: nobody can set the time of a change of a file's attributes."""
    monkeypatch.setattr(file_state, "_SETTLED", -(10**12))


def content(image):
    sink = MemorySink()
    with image.open_layer(image.layers[0]) as blob:
        unpack(blob, image.layers[0], sink)
    return bytes(sink.contents[b"a"])


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_tar_is_one_layer_named_by_its_content(tmp_path, store, compress):
    (tmp_path / "x").write_bytes(compress(TAR))
    image = open_bare(tmp_path / "x", AMD64, store)
    assert [layer.diff_id for layer in image.layers] == [of(TAR)]
    assert content(image) == b"1" * 5000
    assert image.config.env == ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
    assert (image.config.platform, image.config.cmd) == (AMD64, ())


@pytest.mark.usefixtures("old")
def test_a_tar_is_read_once_until_it_changes(tmp_path, store, reads):
    path = tmp_path / "x"
    path.write_bytes(TAR)
    assert open_bare(path, AMD64, store) == open_bare(path, AMD64, store)
    assert reads == [path]
    other = layer_tar({"a": b"2" * 5000})
    assert len(other) == len(TAR)
    path.write_bytes(other)
    assert open_bare(path, AMD64, store).layers[0].diff_id == of(other)
    (tmp_path / "y").write_bytes(TAR)  # replaced as a whole, with the old one's times
    os.utime(tmp_path / "y", ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    (tmp_path / "y").replace(path)
    assert open_bare(path, AMD64, store).layers[0].diff_id == of(TAR)
    assert len(reads) == 3


def test_what_has_just_been_written_is_not_remembered(tmp_path, store, reads):
    path = tmp_path / "x"
    path.write_bytes(TAR)
    settle(path)
    for _ in range(2):
        open_bare(path, AMD64, store)
    assert len(reads) == (1 if os.name == "nt" else 2)  # Windows tells no time of attributes


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize(
    "record", [b"", b"[]", b"{}", b"null", b"\xff", json.dumps({"digest": "sha256:x"}).encode(), b"[" * 100_000]
)
def test_a_damaged_record_counts_as_absent(tmp_path, store, reads, record):
    path = tmp_path / "x"
    path.write_bytes(TAR)
    open_bare(path, AMD64, store)
    (kept,) = store.tarballs.iterdir()
    kept.write_bytes(record)
    assert open_bare(path, AMD64, store).layers[0].diff_id == of(TAR)
    assert len(reads) == 2


@pytest.mark.usefixtures("old")
def test_a_record_that_lies_is_found_out(tmp_path, store):
    path = tmp_path / "x"
    path.write_bytes(TAR)
    open_bare(path, AMD64, store)
    (kept,) = store.tarballs.iterdir()
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"digest": of(b"other")}))
    with pytest.raises(DigestMismatch):
        content(open_bare(path, AMD64, store))


@pytest.mark.usefixtures("old")
def test_a_tar_that_grows_while_it_is_read_is_refused(tmp_path, store, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(TAR)
    real = bare.pieces_of

    def growing(path):
        yield from real(path)
        with path.open("ab") as file:
            file.write(b"more")

    monkeypatch.setattr(bare, "pieces_of", growing)
    with pytest.raises(ImageInvalid, match="changed while it was read"):
        open_bare(path, AMD64, store)
    assert not store.tarballs.exists()


def test_a_directory_has_no_layers(tmp_path, store):
    image = open_bare(tmp_path, AMD64, store)
    assert (image.layers, image.digest) == ((), "")


def test_what_cannot_be_says_so(tmp_path, store):
    with pytest.raises(ImageNotFound, match="there is no"):
        open_bare(tmp_path / "none", AMD64, store)
    write_layout(tmp_path / "layout", [{"a": b"1"}])
    with pytest.raises(ImageInvalid, match="OCI image layout") as caught:
        open_bare(tmp_path / "layout", AMD64, store)
    assert "--rootfs" in caught.value.hint
    for data in (b"", b"no tar" * 500, gzip.compress(TAR)[:-20]):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(ImageError):
            content(open_bare(tmp_path / "x", AMD64, store))


def test_a_name_that_is_no_text_is_a_path_too(tmp_path, store):
    if os.name == "nt":
        pytest.skip("every name is text there")
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    path.write_bytes(TAR)
    assert content(open_bare(path, AMD64, store)) == b"1" * 5000
