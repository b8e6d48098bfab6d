"""Layers of an image become disks: in threads, in spite of damage, and however they lean on one another."""

import threading

import pytest

from disks import read
from propolis.disk.cache import LayerCache
from propolis.errors import BlobDamaged, DigestMismatch
from propolis.image.files import DirectoryFiles
from propolis.image.layout import LayoutSource
from propolis.image.platforms import platform_of
from propolis.image.source import Image
from propolis.image.store import BlobStore
from propolis.machine.conversion import layer_disks
from propolis.progress import Silent
from propolis.spec import Architecture, DiskFormat
from propolis.testing.images import Directory, Symlink, write_layout

AMD64 = Architecture.X86_64


def opened(directory, store, source_class=LayoutSource):
    source = source_class(DirectoryFiles(directory), store)
    found = source.find("", "", platform_of(AMD64))
    return Image(
        reference="x",
        digest=found.digest,
        config=found.config,
        layers=found.layers,
        source=source,
    )


@pytest.mark.parametrize("has_directories", [True, False], ids=["alone", "leaning on those below"])
def test_many_layers_become_as_many_disks_in_order(tmp_path, has_directories):
    base = {"d": Directory(), **{f"d/{n}": b"x" for n in range(20)}}
    above = [{**({"d": Directory()} if has_directories else {}), f"d/{n}": b"y" * n} for n in range(12)]
    write_layout(tmp_path / "image", [base, *above])
    image = opened(tmp_path / "image", BlobStore(tmp_path / "blobs"))
    disks = layer_disks(image, LayerCache(tmp_path / "layers"), DiskFormat.RAW, Silent())
    for layer, disk in zip(image.layers, disks, strict=True):
        assert disk.path.name.startswith(layer.diff_id.replace(":", "-"))
        assert (".on-" in disk.path.name) == (not has_directories and layer is not image.layers[0])


def test_a_layer_that_leans_on_another_is_unpacked_meanwhile(tmp_path):
    """The lower one is not finished before the upper one has been read to its end."""
    above_is_read = threading.Event()
    times_out = []

    class Meeting(LayoutSource):
        def open_layer(self, layer):
            blob = super().open_layer(layer)
            if layer.diff_id == image.layers[0].diff_id:
                times_out.append(not above_is_read.wait(60))
            return blob

    class Watching(Silent):
        def end(self, step, subject=""):
            if subject == image.layers[1].diff_id:
                above_is_read.set()

    write_layout(tmp_path / "image", [{"d": Directory(mode=0o751), "d/a": b""}, {"d/b": b"x" * 3_000_000}])
    image = opened(tmp_path / "image", BlobStore(tmp_path / "blobs"), Meeting)
    _, upper = layer_disks(image, LayerCache(tmp_path / "layers"), DiskFormat.RAW, Watching())
    assert times_out == [False]
    assert read(upper.path)[b"d"][0].mode & 0o777 == 0o751


def test_a_link_on_the_way_to_an_entry_has_the_layer_unpacked_once_more(tmp_path):
    begun = []

    class Counting(Silent):
        def begin(self, step, subject="", total=None):
            begun.append(subject)

    write_layout(tmp_path / "image", [{"lib": Symlink("usr/lib"), "usr/lib/a": b""}, {"lib/b": b"x" * 300_000}])
    image = opened(tmp_path / "image", BlobStore(tmp_path / "blobs"))
    _, upper = layer_disks(image, LayerCache(tmp_path / "layers"), DiskFormat.RAW, Counting())
    assert begun.count(image.layers[1].diff_id) == 2
    assert read(upper.path)[b"usr/lib/b"][1] == b"x" * 300_000
    assert b"lib" not in read(upper.path)


class Damaged(LayoutSource):
    """Finds out as often as it is told that what it had kept of a layer was damaged."""

    times = 1

    def open_layer(self, layer):
        blob, source = super().open_layer(layer), self

        class Kept(type(blob)):
            def __exit__(self, kind, error, trace):
                super().__exit__(kind, error, trace)
                if source.times:
                    source.times -= 1
                    raise BlobDamaged("kept, and damaged")

        kept = Kept(blob.name)
        blob.close()
        return kept


@pytest.mark.parametrize("times", [1, 2])
def test_what_was_kept_and_is_damaged_is_got_once_more(tmp_path, monkeypatch, times):
    monkeypatch.setattr(Damaged, "times", times)
    write_layout(tmp_path / "image", [{"a": b"x" * 1000}])
    image = opened(tmp_path / "image", BlobStore(tmp_path / "blobs"), Damaged)
    cache = LayerCache(tmp_path / "layers")
    if times == 1:
        assert len(layer_disks(image, cache, DiskFormat.RAW, Silent())) == 1
    else:
        with pytest.raises(DigestMismatch, match="kept, and damaged"):
            layer_disks(image, cache, DiskFormat.RAW, Silent())
        assert not list((tmp_path / "layers").glob("*.raw"))


def test_only_some_are_unpacked_at_once(tmp_path):
    class Counting(Silent):
        def __init__(self):
            self.now, self.most, self.lock = 0, 0, threading.Lock()

        def begin(self, step, subject="", total=None):
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)

        def end(self, step, subject=""):
            with self.lock:
                self.now -= 1

    write_layout(tmp_path / "image", [{f"f{n}": bytes([n]) * 3_000_000} for n in range(12)])
    reporter = Counting()
    image = opened(tmp_path / "image", BlobStore(tmp_path / "blobs"))
    layer_disks(image, LayerCache(tmp_path / "layers"), DiskFormat.RAW, reporter)
    assert 1 < reporter.most <= 4


def test_when_one_fails_the_others_are_left_where_they_are(tmp_path):
    class Counting(Silent):
        ended = 0

        def end(self, step, subject=""):
            self.ended += 1

    write_layout(tmp_path / "image", [{f"f{n}": bytes([n]) * 3_000_000} for n in range(20)], compression="none")
    reporter = Counting()
    image = opened(tmp_path / "image", BlobStore(tmp_path / "blobs"))
    blob = tmp_path / "image/blobs" / image.layers[1].digest.replace(":", "/")
    blob.write_bytes(b"x" + blob.read_bytes()[1:])
    with pytest.raises(DigestMismatch):
        layer_disks(image, LayerCache(tmp_path / "layers"), DiskFormat.RAW, reporter)
    assert reporter.ended < 19
    assert not list((tmp_path / "layers").glob(".staged*"))
