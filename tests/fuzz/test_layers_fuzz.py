"""Damaged layers and documents: whatever the damage, only an ImageError comes out.

Seeds are fixed and the work is bounded.
"""

import gzip
import io
import json
import random
import subprocess
import tarfile

import pytest

from propolis.errors import ImageError
from propolis.image.layers import unpack
from propolis.image.manifest import parse_config, parse_index, parse_manifest
from propolis.testing.images import describe_layer
from propolis.testing.trees import MemorySink

ROUNDS = 400


def samples(directory):
    with (directory / "sparse").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"x" * 5000)
    (directory / ("long" * 50)).write_bytes(b"content" * 300)
    (directory / "link").symlink_to("l" * 150)
    (directory / ".wh.gone").touch()
    for options in (
        ["-S", "--format=gnu"],
        ["-S", "--format=pax"],
        ["-S", "--format=pax", "--sparse-version=0.0"],
        ["--format=gnu"],
    ):
        yield subprocess.run(["tar", "-c", *options, "-C", directory, "."], capture_output=True, check=True).stdout


def damaged(data, chance):
    """Flip, overwrite, cut or double something, mostly inside headers, with checksums put right half of the time."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        position = chance.randrange(len(found))
        if chance.random() < 0.7:
            position = position // 512 * 512 + chance.choice([0, 100, 108, 124, 136, 148, 156, 157, 257, 345, 386, 483])
        length = chance.choice([1, 1, 2, 8, 12])
        if chance.random() < 0.1:
            found = found[:position] or found
        else:
            filler = chance.choice(
                [chance.randbytes(length), b"\xff" * length, b"7" * length, bytes(length), b"S", b"x"]
            )
            found[position : position + len(filler)] = filler
        if chance.random() < 0.5:
            mend(found, position // 512 * 512)
    return bytes(found)


def mend(data, start):
    if start + 512 <= len(data):
        data[start + 148 : start + 156] = b" " * 8
        data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])


class Bounded(MemorySink):
    """Takes holes of any size without memory."""

    def hole(self, length):
        assert 0 < length <= self._missing
        self._missing -= length


@pytest.mark.parametrize("number", range(4))
def test_a_damaged_layer_raises_an_image_error_or_nothing(tmp_path, number):
    data = list(samples(tmp_path))[number]
    chance = random.Random(number)
    outcomes = set()
    for _ in range(ROUNDS):
        blob = damaged(data, chance)
        sink = Bounded()
        try:
            unpack(io.BytesIO(blob), describe_layer(blob), sink)
            sink.check()
            outcomes.add("taken")
        except ImageError as error:
            outcomes.add(str(error).partition(":")[0])
    assert len(outcomes) > 1


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_damaged_compressed_layer_raises_an_image_error(compression):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number in range(50):
            info = tarfile.TarInfo(f"file{number}")
            info.size = number * 100
            tar.addfile(info, io.BytesIO(random.Random(number).randbytes(info.size)))
    plain = buffer.getvalue()
    blob = gzip.compress(plain) if compression == "gzip" else zstd_compress(plain)
    layer, chance = describe_layer(blob, plain, compression), random.Random(7)
    for _ in range(ROUNDS):
        changed = bytearray(blob)
        changed[chance.randrange(len(blob))] ^= 1 << chance.randrange(8)
        with pytest.raises(ImageError):
            unpack(io.BytesIO(changed), layer, MemorySink())


def zstd_compress(data):
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    return zstd.compress(data)


VALUES = [
    None,
    True,
    -1,
    1 << 70,
    1.5,
    "",
    "x",
    "\ud800",
    "a\0b",
    [],
    {},
    [None],
    [[]],
    {"a": None},
    "sha256:" + "0" * 64,
]


def test_damaged_documents_raise_an_image_error_or_nothing():
    digest = "sha256:" + "0" * 64
    item = {
        "mediaType": "application/vnd.oci.image.layer.v1.tar",
        "digest": digest,
        "size": 1,
        "annotations": {"a": "b"},
    }
    config = item | {"mediaType": "application/vnd.oci.image.config.v1+json"}
    documents = {
        parse_index: {"schemaVersion": 2, "manifests": [item | {"platform": {"os": "linux", "architecture": "amd64"}}]},
        parse_manifest: {"schemaVersion": 2, "config": config, "layers": [item]},
        parse_config: {"os": "a", "architecture": "b", "config": {"Env": ["A=b"]}, "rootfs": {"diff_ids": [digest]}},
    }
    chance = random.Random(3)
    for parse, document in documents.items():
        parse(json.dumps(document).encode(), "sound")
        for _ in range(ROUNDS):
            changed = json.loads(json.dumps(document))
            place = changed
            while True:
                keys = list(place) if isinstance(place, dict) else list(range(len(place)))
                key = chance.choice(keys)
                if not isinstance(place[key], dict | list) or not place[key] or chance.random() < 0.3:
                    break
                place = place[key]
            place[key] = chance.choice(VALUES)
            try:
                parse(json.dumps(changed).encode(), "damaged")
            except ImageError as error:
                assert "damaged" in str(error)
