import gzip
import io
import random
import tarfile

import pytest

from propolis.errors import DigestMismatch, ImageError, ImageInvalid, PropolisError
from propolis.image import layers
from propolis.image.compression import Compression
from propolis.image.layers import unpack
from propolis.testing.images import Directory, File, Hardlink, Symlink, describe_layer, layer_tar
from propolis.testing.trees import MemorySink
from propolis.tree import Kind

try:
    from compression import zstd
except ImportError:
    from backports import zstd

TREE = {
    "./": Directory(mode=0o711, uid=3),
    "./bin/": Directory(),
    "./bin/tool": File(content=b"tool" * 100_000, mode=0o4755, uid=10, gid=20, mtime=1.5),
    "/bin/link": Symlink("../x//y/."),
    "bin/twin": Hardlink("/bin/./tool"),
    "etc/noise": random.Random(1).randbytes(900_000),
    "etc/big": File(content=bytes(range(256)) * 5000, xattrs={"user.a": "b", "trusted.overlay.opaque": "y"}),
}
TAR = layer_tar(TREE)


def unpacked(blob, layer=None):
    sink = MemorySink()
    unpack(io.BytesIO(blob), layer or describe_layer(blob), sink)
    sink.check()
    return sink


def one(name, **fields):
    """A layer of one entry with fields that layer_tar would not write."""
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=fields.pop("format", tarfile.PAX_FORMAT), encoding="utf-8"
    ) as tar:
        info = tarfile.TarInfo(name)
        for key, value in fields.items():
            setattr(info, key, value)
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("blob", "compression"),
    [
        (TAR, "none"),
        (gzip.compress(TAR), "gzip"),
        (zstd.compress(TAR), "zstd"),
        (gzip.compress(TAR) + bytes(600), "gzip"),
    ],
)
def test_a_layer_becomes_entries_however_it_is_compressed(blob, compression):
    sink = unpacked(blob, describe_layer(blob, TAR, compression))
    found = sink.by_path()
    assert list(found) == [b"", b"bin", b"bin/tool", b"bin/link", b"bin/twin", b"etc/noise", b"etc/big"]
    assert (found[b""].mode, found[b""].uid) == (0o711, 3)
    tool = found[b"bin/tool"]
    assert (tool.kind, tool.mode, tool.uid, tool.gid, tool.mtime_ns) == (Kind.FILE, 0o4755, 10, 20, 1_500_000_000)
    assert (found[b"bin/link"].kind, found[b"bin/link"].link) == (Kind.SYMLINK, b"../x//y/.")
    assert (found[b"bin/twin"].kind, found[b"bin/twin"].link) == (Kind.HARDLINK, b"bin/tool")
    assert found[b"etc/big"].xattrs == {b"user.a": b"b"}
    assert sink.contents[b"bin/tool"] == b"tool" * 100_000
    assert sink.contents[b"etc/noise"] == TREE["etc/noise"]
    assert sink.contents[b"etc/big"] == bytes(range(256)) * 5000


@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [
        (".wh.gone", Kind.WHITEOUT, b"gone"),
        ("a/b/.wh.gone", Kind.WHITEOUT, b"a/b/gone"),
        ("a/.wh..wh..opq", Kind.OPAQUE, b"a"),
        (".wh..wh..opq", Kind.OPAQUE, b""),
        ("a/x.wh.y", Kind.FILE, b"a/x.wh.y"),
        ("old/", Kind.DIRECTORY, b"old"),
    ],
)
def test_whiteouts_and_old_directories(name, kind, path):
    (entry,) = unpacked(one(name)).entries
    assert (entry.kind, entry.path) == (kind, path)


@pytest.mark.parametrize("name", [".wh..wh.plnk", ".wh..wh.plnk/12.34", "a/.wh..wh.aufs"])
def test_what_aufs_left_behind_is_ignored(name):
    assert unpacked(one(name, size=700)).entries == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "../x"}, "'../x' climbs above the root"),
        ({"name": "a/../../x"}, "climbs above the root"),
        ({"name": "."}, "stands for the root"),
        ({"name": "a/.wh."}, "whiteout of nothing"),
        ({"name": "a/.wh..."}, "whiteout of nothing"),
        ({"name": ".wh.a/b"}, "below a whiteout"),
        ({"name": "n" * 256}, "more than 255 bytes"),
        ({"name": "d/" * 2048 + "x"}, "path of more than 4095"),
        ({"name": "a", "type": b"1", "linkname": "../../x"}, "climbs above"),
        ({"name": "a", "type": b"1", "linkname": "./a"}, "link to itself"),
        ({"name": "a", "type": b"1", "linkname": "/"}, "link to itself or to the root"),
        ({"name": "a", "type": b"2"}, "links to nothing"),
        ({"name": "a", "type": b"2", "linkname": "l" * 4096}, "links to a path of more"),
        ({"name": "a", "type": b"M"}, "'a' is of unknown type b'M'"),
        ({"name": "a", "type": b"3", "devmajor": 4096}, "device number"),
        ({"name": "a", "uid": 0xFFFFFFFF}, "owner that Linux does not know"),
    ],
)
def test_a_hostile_entry_is_refused_by_name(fields, message):
    with pytest.raises(ImageInvalid, match=message):
        unpacked(one(**fields))


def test_names_are_bytes():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        tar.addfile(tarfile.TarInfo("caf\udce9"))
    assert unpacked(buffer.getvalue()).entries[0].path == b"caf\xe9"


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("part", [0.2, 0.6, 0.95])
def test_a_truncated_layer_is_called_truncated_and_names_the_entry(compression, part):
    blob = {"none": TAR, "gzip": gzip.compress(TAR, 1), "zstd": zstd.compress(TAR)}[compression]
    cut = blob[: int(len(blob) * part)]
    for layer in (describe_layer(blob, TAR, compression), describe_layer(cut, TAR, compression)):
        if cut.endswith(bytes(512)):
            continue
        with pytest.raises(ImageInvalid, match=r"layer sha256:\w{12} is truncated: it ends .*entry '") as caught:
            unpacked(cut, layer)
        assert not isinstance(caught.value, DigestMismatch)


def changed(data, position):
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


@pytest.mark.parametrize(
    ("blob", "layer"),
    [
        (changed(TAR, 6000), describe_layer(TAR)),
        (changed(TAR, 3), describe_layer(TAR)),
        (changed(gzip.compress(TAR, mtime=0), 5), describe_layer(gzip.compress(TAR, mtime=0), TAR, "gzip")),
        (changed(gzip.compress(TAR, mtime=0), 300), describe_layer(gzip.compress(TAR, mtime=0), TAR, "gzip")),
    ],
)
def test_bytes_other_than_the_digests_say_are_a_mismatch(blob, layer):
    with pytest.raises(DigestMismatch):
        unpacked(blob, layer)


def test_what_follows_the_archive_counts_for_the_digests():
    longer = TAR + b"trailing" * 100_000
    blob = gzip.compress(longer)
    unpacked(blob, describe_layer(blob, longer, "gzip"))
    with pytest.raises(ImageInvalid, match="what diff_id"):
        unpacked(blob, describe_layer(blob, TAR, "gzip"))


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_blob_of_another_size_than_declared_is_refused(difference):
    from dataclasses import replace

    layer = describe_layer(TAR)
    with pytest.raises(ImageInvalid, match="bytes"):
        unpacked(TAR, replace(layer, size=layer.size + difference))


def test_the_media_type_must_be_true():
    with pytest.raises(ImageInvalid, match=r"declared as .*\+gzip, but its compression is zstd"):
        unpacked(zstd.compress(TAR), describe_layer(zstd.compress(TAR), TAR, "gzip"))
    with pytest.raises(ImageInvalid, match="but its compression is gzip"):
        unpacked(gzip.compress(TAR, mtime=0), describe_layer(gzip.compress(TAR, mtime=0), TAR))


def test_a_layer_without_a_digest_is_verified_by_its_diff_id():
    from dataclasses import replace

    blob = gzip.compress(TAR)
    unpacked(blob, replace(describe_layer(blob, TAR, "gzip"), digest=""))
    with pytest.raises(DigestMismatch):
        unpacked(blob, replace(describe_layer(blob, TAR + b"x", "gzip"), digest=""))


@pytest.mark.parametrize(
    ("blob", "layer"),
    [
        (gzip.compress(TAR, mtime=0), describe_layer(gzip.compress(TAR, mtime=0), TAR + b"x", "gzip")),
        (TAR, describe_layer(TAR, TAR + b"x")),
    ],
)
def test_a_wrong_diff_id_is_no_fault_of_the_blob(blob, layer):
    with pytest.raises(ImageInvalid, match="what diff_id") as caught:
        unpacked(blob, layer)
    assert not isinstance(caught.value, DigestMismatch), "or whoever keeps the blob would throw it away"


def test_bombs_are_bounded(monkeypatch):
    monkeypatch.setattr(layers, "MAX_ENTRIES", 5)
    with pytest.raises(ImageInvalid, match="more than 5 entries"):
        unpacked(TAR)
    monkeypatch.setattr(layers, "MAX_ENTRIES", 100)
    monkeypatch.setattr(layers, "MAX_UNPACKED", 1_600_000)
    with pytest.raises(ImageInvalid, match="files are more than"):
        unpacked(TAR)
    zeros = gzip.compress(bytes(10 << 20))
    with pytest.raises(ImageInvalid, match="unpacks to more than"):
        unpacked(zeros, describe_layer(zeros, bytes(10 << 20), "gzip"))


def test_a_read_error_of_the_host_names_the_layer():
    class Failing(io.BytesIO):
        def readinto(self, buffer):
            raise OSError(5, "Input/output error")

    with pytest.raises(ImageError, match=r"cannot read layer sha256:.*Input/output error"):
        unpack(Failing(TAR), describe_layer(TAR), MemorySink())


def test_errors_of_the_sink_pass_through():
    class Full(MemorySink):
        def commit(self):
            if self.entries:
                raise ValueError("sink")

    with pytest.raises(ValueError, match=r"^sink$") as caught:
        unpack(io.BytesIO(TAR), describe_layer(TAR), Full())
    assert not isinstance(caught.value, PropolisError)


def test_progress_is_counted_in_bytes_of_the_blob():
    class Listening:
        def __init__(self):
            self.heard = []

        def begin(self, step, subject="", total=None):
            self.heard.append(("begin", total))

        def advance(self, step, subject="", amount=0):
            self.heard.append(("advance", amount))

        def end(self, step, subject=""):
            self.heard.append(("end", 0))

        def notice(self, text):
            raise AssertionError

    blob, reporter = gzip.compress(TAR), Listening()
    unpack(io.BytesIO(blob), describe_layer(blob, TAR, "gzip"), MemorySink(), reporter)
    assert reporter.heard[0] == ("begin", len(blob))
    assert reporter.heard[-1] == ("end", 0)
    assert sum(amount for what, amount in reporter.heard if what == "advance") == len(blob)
