import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from propolis.errors import DigestMismatch, ImageInvalid
from propolis.host.files import STAGE_PREFIX
from propolis.image.digest import of
from propolis.image.layers import unpack
from propolis.image.manifest import OCI_LAYER, Layer
from propolis.image.store import BlobStore
from propolis.testing.images import layer_tar
from propolis.testing.trees import MemorySink

DATA = b"some content"


def files_below(directory):
    return [path for path in directory.rglob("*") if path.is_file()]


def test_a_blob_is_kept_under_its_digest(tmp_path):
    store = BlobStore(tmp_path)
    path = store.add(of(DATA), len(DATA), (DATA[:4], DATA[4:]))
    assert path == tmp_path / "sha256" / of(DATA).partition(":")[2]
    assert path.read_bytes() == store.read(of(DATA), 100) == DATA


def test_sha512_has_a_place_of_its_own(tmp_path):
    import hashlib

    digest = "sha512:" + hashlib.sha512(DATA).hexdigest()
    store = BlobStore(tmp_path)
    assert store.add(digest, len(DATA), (DATA,)).parent.name == "sha512"
    assert store.read(digest, 100) == DATA


@pytest.mark.parametrize(("size", "data"), [(12, b"Some content"), (11, DATA), (13, DATA), (12, DATA * 2), (12, b"")])
def test_wrong_bytes_leave_nothing(tmp_path, size, data):
    with pytest.raises(DigestMismatch):
        BlobStore(tmp_path).add(of(DATA), size, (data,))
    assert files_below(tmp_path) == []


def test_a_failing_producer_leaves_nothing(tmp_path):
    def pieces():
        yield DATA[:3]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        BlobStore(tmp_path).add(of(DATA), len(DATA), pieces())
    assert files_below(tmp_path) == []


def test_an_existing_blob_is_not_written_again(tmp_path):
    store = BlobStore(tmp_path)
    store.add(of(DATA), len(DATA), (DATA,))

    def never():
        raise AssertionError
        yield b""

    store.add(of(DATA), len(DATA), never())


def test_a_blob_gone_bad_counts_as_absent_and_is_removed(tmp_path):
    store = BlobStore(tmp_path)
    path = store.add(of(DATA), len(DATA), (DATA,))
    path.write_bytes(b"rotten")
    assert store.read(of(DATA), 100) is None
    assert not path.exists()


def test_what_is_not_there_is_none(tmp_path):
    assert BlobStore(tmp_path / "not yet").read(of(DATA), 100) is None
    assert BlobStore(tmp_path / "not yet").sweep() == 0


@pytest.mark.parametrize("digest", ["sha256:../../etc/passwd", "md5:" + "0" * 32, "x"])
def test_a_digest_cannot_name_another_file(tmp_path, digest):
    with pytest.raises(ImageInvalid):
        BlobStore(tmp_path).read(digest, 100)


def test_what_a_killed_writer_left_is_swept(tmp_path):
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom propolis.image.store import BlobStore\n"
        "def pieces():\n    yield b'half'\n    os.kill(os.getpid(), 9)\n"
        f"BlobStore(Path(sys.argv[1])).add({of(DATA)!r}, {len(DATA)}, pieces())\n"
    )
    source = Path(__file__).parents[3] / "src"
    subprocess.run([sys.executable, "-c", script, tmp_path], env={**os.environ, "PYTHONPATH": str(source)}, check=False)
    (left,) = files_below(tmp_path)
    assert left.name.startswith(STAGE_PREFIX)
    store = BlobStore(tmp_path)
    assert store.read(of(DATA), 100) is None
    assert store.sweep() == 1
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("lie", [{"size": 5}, {"diff_id": of(b"other")}])
def test_an_image_that_lies_of_a_layer_does_not_take_it_from_others(tmp_path, lie):
    store = BlobStore(tmp_path)
    tar = layer_tar({"a": b"1"})
    true = Layer(digest=of(tar), size=len(tar), media_type=OCI_LAYER, diff_id=of(tar))
    store.add(true.digest, len(tar), (tar,))
    false = replace(true, **lie)

    def read(layer):
        with store.open_layer(layer) as blob:
            unpack(blob, layer, MemorySink())

    with pytest.raises(ImageInvalid) as caught:
        read(false)
    assert not isinstance(caught.value, DigestMismatch)
    read(true)
