"""What archives, directories, daemons and users may say: whatever it is, only errors of ours come out, soon."""

import contextlib
import gzip
import io
import json
import random
import tarfile

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from propolis.errors import ImageError, ImageNotFound, InvalidArgument
from propolis.image.daemon import source as daemon
from propolis.image.daemon.address import Address, Kind
from propolis.image.daemon.engine import Engine
from propolis.image.layers import unpack
from propolis.image.opening import holds_image, open_image
from propolis.image.platforms import fits, parse_platform
from propolis.image.reference import parse, reads_standard_input
from propolis.image.store import BlobStore
from propolis.spec import Architecture
from propolis.testing.images import write_layout
from propolis.testing.trees import MemorySink

AMD64 = Architecture.X86_64
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
FIELDS = ("schemaVersion", "mediaType", "manifests", "config", "layers", "digest", "size", "platform")
NAMES = st.sampled_from(["a", "../a", "/etc/passwd", "manifest.json", "x/../y", "", "\0", "blobs/sha256/" + "0" * 64])
LISTED = st.lists(
    st.fixed_dictionaries({}, optional={"Config": JSON | NAMES, "RepoTags": JSON, "Layers": JSON | st.lists(NAMES)}),
    max_size=3,
)
DOCUMENTS = (
    st.binary(max_size=100)
    | JSON.map(lambda value: json.dumps(value).encode())
    | LISTED.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(FIELDS), JSON | st.just(2)).map(lambda value: json.dumps(value).encode())
)
FIXTURE = [HealthCheck.function_scoped_fixture]


@given(st.text(max_size=60) | st.from_regex(r"(linux/)?[a-z0-9]{1,6}(/v?[0-9])?", fullmatch=True))
@example("linux/" + "x" * 10_000)
def test_any_text_may_be_a_platform(text):
    try:
        platform = parse_platform(text)
    except InvalidArgument as error:
        assert len(str(error)) < 300
    else:
        assert parse_platform(str(platform)) == platform
        assert fits(platform, platform)


PREFIXES = st.sampled_from(["", "dir:", "oci:", "oci-archive:", "docker-archive:", "docker-daemon:", "docker://", "-"])


@given(PREFIXES, st.text(max_size=60) | st.from_regex(r"[a-z0-9._:/@-]{0,80}", fullmatch=True))
def test_any_text_may_be_a_reference(prefix, text):
    reads_standard_input(prefix + text)
    try:
        reference = parse(prefix + text, lambda _: None)
    except (InvalidArgument, ImageNotFound) as error:
        assert len(str(error)) < 600
    else:
        assert parse(str(reference), lambda _: None) == reference


@given(DOCUMENTS, st.binary(max_size=80) | st.just(b"Directory Transport Version: 1.1\n"))
@settings(max_examples=150, deadline=None, suppress_health_check=FIXTURE)
def test_any_bytes_may_be_the_manifest_of_a_directory(tmp_path, manifest, version):
    (tmp_path / "manifest.json").write_bytes(manifest)
    (tmp_path / "version").write_bytes(version)
    with pytest.raises(ImageError) as caught:
        open_image(f"dir:{tmp_path}", AMD64, BlobStore(tmp_path / "blobs"))
    assert "\n" not in str(caught.value)


def archive(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@given(DOCUMENTS, st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=FIXTURE)
def test_any_bytes_may_be_the_manifest_of_an_archive(tmp_path, manifest, compressed):
    data = archive({"a": b"{}", "manifest.json": manifest})
    (tmp_path / "x").write_bytes(gzip.compress(data) if compressed else data)
    store = BlobStore(tmp_path / "blobs")
    with pytest.raises((ImageError, InvalidArgument)) as caught:
        open_image(f"docker-archive:{tmp_path / 'x'}", AMD64, store)
    assert "\n" not in str(caught.value)
    assert not list(store.spool.glob("*"))


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_changed_in_an_archive_only_errors_of_ours_come_out(tmp_path, seed):
    chance = random.Random(seed)
    write_layout(tmp_path / "layout", [{"a": b"1" * 5000}, {"b": b"2"}])
    with tarfile.open(tmp_path / "x", "w") as tar:
        for path in sorted((tmp_path / "layout").iterdir()):
            tar.add(path, path.name)
    good = (tmp_path / "x").read_bytes()
    store = BlobStore(tmp_path / "blobs")
    for _ in range(80):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 5)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        data = data[: chance.choice([len(data), len(data), chance.randrange(len(data))])]
        whole = bytearray(chance.choice([bytes, gzip.compress])(bytes(data)))
        if whole and chance.random() < 0.3:
            whole[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        (tmp_path / "y").write_bytes(whole)
        with contextlib.suppress(ImageError, InvalidArgument):
            holds_image(tmp_path / "y")
        with contextlib.suppress(ImageError, InvalidArgument):
            with open_image(f"oci-archive:{tmp_path / 'y'}", AMD64, store) as image:
                for layer in image.layers:
                    with image.open_layer(layer) as blob:
                        unpack(blob, layer, MemorySink())
        assert not list(store.spool.glob("*"))


@given(st.dictionaries(st.sampled_from(["Id", "Os", "Architecture", "Variant", "RootFS"]), JSON) | JSON)
def test_any_document_may_be_what_a_daemon_tells(document):
    engine = Engine(Address(kind=Kind.UNIX, path="x"))
    with contextlib.suppress(ImageError):
        identity, platform = daemon._identity(json.dumps(document).encode(), engine)
        fits(platform, parse_platform("amd64"))
        assert identity.startswith("sha")
