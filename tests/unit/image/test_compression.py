import gzip
import random
import zlib

import pytest

from propolis.image import decompression
from propolis.image.compression import Compression, sniff
from propolis.image.decompression import CHUNK, chunks

try:
    from compression import zstd
except ImportError:
    from backports import zstd

DATA = random.Random(1).randbytes(300_000) + bytes(CHUNK * 3) + random.Random(2).randbytes(5)
SKIPPABLE = b"\x50\x2a\x4d\x18\x03\0\0\0abc"


def dripping(data, step):
    """The data in pieces of a few bytes, each gone when the next one comes."""
    buffer = bytearray(step)
    for start in range(0, len(data), step):
        piece = data[start : start + step]
        buffer[: len(piece)] = piece
        yield memoryview(buffer)[: len(piece)]


def whole(blob, kind):
    pieces = [bytes(view) for view in chunks(blob, kind)]
    assert all(len(piece) == CHUNK for piece in pieces[:-1])
    return b"".join(pieces)


@pytest.fixture(params=["isal", "zlib"])
def gzip_decoder(request, monkeypatch):
    if request.param == "zlib":
        monkeypatch.setattr(decompression, "_decompressobj", zlib.decompressobj)


GZIPS = {
    "one member": gzip.compress(DATA),
    "members": gzip.compress(DATA[:7]) + gzip.compress(b"") + gzip.compress(DATA[7:]),
    "zero padding": gzip.compress(DATA) + bytes(200_000),
    "zeros between members": gzip.compress(DATA[:9]) + bytes(512) + gzip.compress(DATA[9:]),
}


@pytest.mark.parametrize("step", [1 << 20, 4093])
@pytest.mark.parametrize("name", GZIPS)
def test_gzip_members_and_padding(gzip_decoder, name, step):
    assert whole(dripping(GZIPS[name], step), Compression.GZIP) == DATA


@pytest.mark.parametrize("step", [1, 2, 17])
def test_gzip_in_drops(gzip_decoder, step):
    small = DATA[:500]
    assert whole(dripping(gzip.compress(small) + gzip.compress(small), step), Compression.GZIP) == small * 2


@pytest.mark.parametrize("step", [1 << 20, 4093])
@pytest.mark.parametrize(
    "blob",
    [
        zstd.compress(DATA),
        zstd.compress(DATA[:7]) + zstd.compress(b"") + zstd.compress(DATA[7:]),
        SKIPPABLE + zstd.compress(DATA) + SKIPPABLE,
    ],
)
def test_zstd_frames(blob, step):
    assert whole(dripping(blob, step), Compression.ZSTD) == DATA


@pytest.mark.parametrize("kind", [Compression.GZIP, Compression.ZSTD])
def test_every_truncation_is_seen(gzip_decoder, kind):
    blob = gzip.compress(DATA[:400]) if kind is Compression.GZIP else zstd.compress(DATA[:400])
    for length in range(len(blob)):
        with pytest.raises(EOFError):
            whole(dripping(blob[:length], 1 << 20), kind)


@pytest.mark.parametrize(
    ("blob", "kind"),
    [
        (b"\x1f\x8b\x07garbage garbage", Compression.GZIP),
        (gzip.compress(DATA) + b"garbage after the end", Compression.GZIP),
        (gzip.compress(DATA)[:-8] + bytes(8), Compression.GZIP),
        (b"\x28\xb5\x2f\xfd" + b"garbage" * 9, Compression.ZSTD),
        (zstd.compress(DATA) + b"garbage after the end", Compression.ZSTD),
    ],
)
def test_broken_data_is_an_error(gzip_decoder, blob, kind):
    with pytest.raises(ValueError, match="broken"):
        whole(dripping(blob, 1 << 20), kind)


def test_magic_tells_the_compression():
    assert sniff(gzip.compress(b"")[:4]) is Compression.GZIP
    assert sniff(zstd.compress(b"")[:4]) is Compression.ZSTD
    assert sniff(SKIPPABLE[:4]) is Compression.ZSTD
    assert sniff(b"usr/") is sniff(b"") is Compression.NONE


def test_many_members_in_one_piece_are_not_copied_as_often(monkeypatch):
    blob = gzip.compress(b"") * 3000
    given = []

    class Counting:
        def __init__(self, *arguments):
            self._decoder = zlib.decompressobj(*arguments)

        def decompress(self, data, room):
            given.append(len(data))
            return self._decoder.decompress(data, room)

        def __getattr__(self, name):
            return getattr(self._decoder, name)

    monkeypatch.setattr(decompression, "_decompressobj", Counting)
    assert whole(iter([memoryview(blob)]), Compression.GZIP) == b""
    assert sum(given) < 100 * len(blob)
