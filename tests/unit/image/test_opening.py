"""Whole images, good and bad, through the room's entry."""

import gzip
import hashlib
import json
import os
import shutil
import sys
import tarfile
from dataclasses import replace

import pytest

from propolis.errors import DigestMismatch, ImageError, ImageInvalid, ImageNotFound, InvalidArgument, PlatformMismatch
from propolis.image.layers import unpack
from propolis.image.opening import holds_image, open_image
from propolis.image.store import BlobStore
from propolis.spec import Architecture
from propolis.testing.images import Directory, layer_tar, write_index, write_layout
from propolis.testing.trees import MemorySink

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LAYERS = [{"a": b"1", "b": b"2"}, {".wh.a": b"", "c": b"3" * 5000}]
CONFIG = {"Entrypoint": ["/c"], "Env": ["A=b"], "User": "7"}


@pytest.fixture
def layout(tmp_path):
    write_layout(tmp_path / "layout", LAYERS, config=CONFIG)
    return tmp_path / "layout"


@pytest.fixture
def store(tmp_path):
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def opened(store):
    return lambda text, architecture=Architecture.X86_64: open_image(str(text), architecture, store)


def contents(image):
    found = []
    for layer in image.layers:
        sink = MemorySink()
        with image.open_layer(layer) as blob:
            unpack(blob, layer, sink)
        found.append([(entry.path, bytes(sink.contents.get(entry.path, b""))) for entry in sink.entries])
    return found


EXPECTED = [[(b"a", b"1"), (b"b", b"2")], [(b"a", b""), (b"c", b"3" * 5000)]]


def tarred(directory, path):
    with tarfile.open(path, "w") as tar:
        for item in sorted(directory.iterdir()):
            tar.add(item, item.name)
    return path


def docker_save(path, *, old=False, compress=None, names=("example.org/x:1",), architecture="amd64"):
    """A tar as docker writes it: since version 25 with blobs/, before with a directory for each layer."""
    directory = path.with_suffix(".d")
    directory.mkdir()
    layers, tars = [], [layer_tar(tree) for tree in LAYERS]
    for number, tar in enumerate(tars):
        digest = hashlib.sha256(tar).hexdigest()
        name = f"{number:064d}/layer.tar" if old else f"blobs/sha256/{digest}"
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(compress(tar) if compress else tar)
        layers.append(name)
    if old:  # docker shares a layer by a link from another one's directory
        shared = "f" * 64 + "/layer.tar"
        (directory / shared).parent.mkdir()
        (directory / shared).symlink_to(f"../{layers[0]}")
        layers[0] = shared
    diff_ids = ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars]
    config = {"os": "linux", "architecture": architecture, "config": CONFIG, "rootfs": {"diff_ids": diff_ids}}
    data = json.dumps(config).encode()
    image_id = hashlib.sha256(data).hexdigest()
    config_name = f"{image_id}.json" if old else f"blobs/sha256/{image_id}"
    (directory / config_name).write_bytes(data)
    listed = [{"Config": config_name, "RepoTags": list(names), "Layers": layers}]
    (directory / "manifest.json").write_text(json.dumps(listed))
    return tarred(directory, path), f"sha256:{image_id}"


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_a_layout_is_read_as_directory_and_as_tar(tmp_path, opened, compression):
    digest = write_layout(tmp_path / "x", LAYERS, config=CONFIG, compression=compression)
    archive = tarred(tmp_path / "x", tmp_path / "x.tar")
    for text in (f"oci:{tmp_path}/x:latest", tmp_path / "x", f"{archive}:latest", f"oci-archive:{archive}@{digest}"):
        image = opened(text)
        assert (image.digest, image.config.entrypoint, image.config.user) == (digest, ("/c",), "7")
        assert contents(image) == EXPECTED
        assert opened(image.reference) == image


def test_an_image_is_found_by_tag_by_digest_and_as_the_only_one(layout, opened):
    only = opened(layout)
    assert opened(f"{layout}:latest") == replace(only, reference=f"oci:{layout}:latest")
    assert opened(f"{layout}@{only.digest}") == replace(only, reference=f"oci:{layout}@{only.digest}")
    other = write_layout(layout, LAYERS[:1], tag="example.org:5000/other:v2")
    assert opened(f"{layout}:v2").digest == opened(f"{layout}:example.org:5000/other:v2").digest == other
    assert opened(f"{layout}:latest").digest == only.digest
    with pytest.raises(InvalidArgument, match="several images") as caught:
        opened(layout)
    assert "name one: it has :latest, :example.org:5000/other:v2" in caught.value.hint
    with pytest.raises(ImageNotFound, match="no image 'v3'") as caught:
        opened(f"{layout}:v3")
    assert "it has :latest" in caught.value.hint
    with pytest.raises(ImageNotFound, match="no sha256:000"):
        opened(f"{layout}@sha256:{'0' * 64}")


def test_two_tags_of_one_image_are_no_choice(layout, opened):
    write_layout(layout, LAYERS, config=CONFIG, tag="again")
    assert contents(opened(layout)) == EXPECTED


def test_a_multi_platform_image_gives_the_wanted_one(tmp_path, opened):
    digests = {
        architecture: write_layout(tmp_path, [{"a": architecture.encode()}], tag=None, architecture=architecture)
        for architecture in Architecture
    }
    index = write_index(tmp_path, digests)
    for architecture, digest in digests.items():
        for text in (tmp_path, f"{tmp_path}:latest", f"{tmp_path}@{index}", f"{tmp_path}@{digest}"):
            assert opened(text, architecture).digest == digest
    with pytest.raises(PlatformMismatch, match="is for linux/arm64, not for linux/amd64"):
        opened(f"{tmp_path}@{digests[Architecture.AARCH64]}")


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_docker_archive_of_either_form_is_read(tmp_path, opened, old, compressed):
    if old and sys.platform == "win32":
        pytest.skip("making links takes a privilege there")
    path, image_id = docker_save(tmp_path / "x.tar", old=old, compress=gzip.compress if compressed else None)
    for name in ("", ":1", ":example.org/x:1", f"@{image_id}"):
        image = opened(f"docker-archive:{path}{name}")
        assert (image.digest, image.config.user) == (image_id, "7")
        assert contents(image) == EXPECTED
    assert opened(path) == opened(f"docker-archive:{path}")
    with pytest.raises(ImageNotFound, match="no image 'y:2'") as caught:
        opened(f"{path}:y:2")
    assert "it has :example.org/x:1" in caught.value.hint


@pytest.mark.parametrize("wanted", ["busybox", "busybox:latest", "library/busybox", "docker.io/library/busybox:latest"])
@pytest.mark.parametrize("tag", ["busybox:latest", "docker.io/library/busybox:latest"])
def test_docker_short_names_mean_the_long_ones(tmp_path, opened, wanted, tag):
    path, image_id = docker_save(tmp_path / "x.tar", names=(tag,))
    assert opened(f"docker-archive:{path}:{wanted}").digest == image_id


def test_a_docker_archive_for_another_architecture_is_a_mismatch(tmp_path, opened):
    path, _ = docker_save(tmp_path / "x.tar", architecture="riscv64")
    with pytest.raises(PlatformMismatch, match="linux/riscv64"):
        opened(path)


def test_a_seen_image_is_opened_again_without_its_documents_or_layers(layout, opened, tmp_path):
    first = opened(layout)
    shutil.rmtree(layout / "blobs")
    assert opened(layout) == opened(layout)
    assert opened(layout).layers == first.layers
    with pytest.raises(ImageNotFound, match="no blobs/sha256/"):
        first.open_layer(first.layers[0])
    assert len([path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]) == 2


def blob_of(layout, kind):
    """Path of the manifest, the config or a layer of the layout's only image."""
    index = json.loads((layout / "index.json").read_text())
    path = layout / "blobs" / index["manifests"][0]["digest"].replace(":", "/")
    if kind == "manifest":
        return path
    manifest = json.loads(path.read_text())
    item = manifest["config"] if kind == "config" else manifest["layers"][0]
    return layout / "blobs" / item["digest"].replace(":", "/")


@pytest.mark.parametrize("kind", ["manifest", "config", "layer"])
def test_a_missing_blob_is_named(layout, opened, kind):
    path = blob_of(layout, kind)
    path.unlink()
    with pytest.raises(ImageNotFound, match=path.name):
        contents(opened(layout))


@pytest.mark.parametrize("kind", ["manifest", "config", "layer"])
def test_a_changed_blob_is_a_mismatch(layout, opened, kind, tmp_path):
    path = blob_of(layout, kind)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DigestMismatch):
        contents(opened(layout))
    assert not (tmp_path / "blobs" / "sha256" / path.name).exists()


def rewritten(layout, change):
    """Change the index.json of the layout."""
    path = layout / "index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.update(manifests=[]), "is empty"),
        (lambda index: index["manifests"][0].update(mediaType="text/plain"), "'text/plain', which is no image"),
        (lambda index: index["manifests"][0].update(size=1), "but its descriptor says 1"),
        (lambda index: index["manifests"][0].update(size=5 << 20), "at most 4194304"),
        (lambda index: index["manifests"][0].update(digest="sha256:../../../etc/passwd"), "lower-case hex"),
        (lambda index: index["manifests"][0].pop("digest"), r"manifests\[0\].digest is missing"),
        (lambda index: index.update(manifests=index["manifests"] * 5000), "has 5000 items"),
        (lambda index: index.update(schemaVersion=1), "schemaVersion is not 2"),
        (
            lambda index: index["manifests"][0].update(mediaType="application/vnd.oci.image.index.v1+json"),
            "mediaType is",
        ),
    ],
)
def test_a_hostile_index_is_refused(layout, opened, change, message):
    rewritten(layout, change)
    with pytest.raises(ImageError, match=message):
        opened(layout)


def test_what_is_no_image_says_so(tmp_path, opened):
    with pytest.raises(ImageNotFound, match="not an OCI image layout"):
        opened(tmp_path)
    (tmp_path / "text").write_text("hello " * 200)
    with pytest.raises(ImageInvalid, match="not a tar archive"):
        opened(tmp_path / "text")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "file").write_text("x")
    with pytest.raises(ImageInvalid, match="neither of an OCI image layout nor from docker save"):
        opened(tarred(tmp_path / "x", tmp_path / "x.tar"))
    with pytest.raises(ImageNotFound, match=r"no index\.json"):
        (tmp_path / "x" / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        opened(tmp_path / "x")
    with pytest.raises(ImageNotFound, match=r"there is no .*missing\.tar"):
        opened(f"docker-archive:{tmp_path}/missing.tar")
    (tmp_path / "x" / "oci-layout").write_text('{"imageLayoutVersion": "9"}')
    with pytest.raises(ImageInvalid, match="version '9'"):
        opened(tmp_path / "x")


def test_nothing_outside_the_store_is_written(layout, opened):
    before = {path: path.stat().st_mtime_ns for path in layout.rglob("*")}
    contents(opened(layout))
    assert {path: path.stat().st_mtime_ns for path in layout.rglob("*")} == before


@pytest.fixture
def standard_input():
    """Makes standard input the file it is given."""
    kept = os.dup(0)

    def become(path):
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        os.dup2(descriptor, 0)
        os.close(descriptor)

    yield become
    os.dup2(kept, 0)
    os.close(kept)


COMPRESSIONS = {"none": bytes, "gzip": gzip.compress, "zstd": zstd.compress}


@pytest.fixture(params=["oci-archive", "docker-archive"])
def archive(request, layout, tmp_path):
    """Transport and bytes of an archive."""
    if request.param == "oci-archive":
        return request.param, tarred(layout, tmp_path / "x.tar").read_bytes()
    return request.param, docker_save(tmp_path / "x.tar")[0].read_bytes()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_an_archive_comes_through_standard_input(archive, opened, standard_input, tmp_path, compression):
    transport, data = archive
    (tmp_path / "input").write_bytes(COMPRESSIONS[compression](data))
    for text in ("-", f"{transport}:-"):
        standard_input(tmp_path / "input")
        with opened(text) as image:
            assert contents(image) == EXPECTED
            assert image.reference == f"{transport}:-"
        assert not list((tmp_path / "blobs/spool").iterdir())


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_an_archive_may_be_compressed_as_a_whole(archive, opened, tmp_path, compression):
    transport, data = archive
    path = tmp_path / "y"
    path.write_bytes(COMPRESSIONS[compression](data))
    for text in (path, f"{transport}:{path}"):
        with opened(text) as image:
            assert contents(image) == EXPECTED
    assert [*(tmp_path / "blobs").glob("spool/*")] == []


def test_standard_input_that_is_no_image_says_what_to_do(opened, standard_input, tmp_path):
    (tmp_path / "input").write_bytes(gzip.compress(layer_tar({"bin/sh": b""})))
    standard_input(tmp_path / "input")
    with pytest.raises(ImageInvalid, match="standard input is a tar, but neither") as caught:
        opened("-")
    assert "--rootfs" in caught.value.hint
    assert not list((tmp_path / "blobs/spool").iterdir())
    with pytest.raises(ImageInvalid, match="standard input is empty"):
        opened("docker-archive:-")


@pytest.mark.parametrize("first", ["./", "bin/", "etc/passwd", "x.json", "0" * 63])
def test_a_compressed_root_file_system_is_told_from_an_image_by_its_beginning(tmp_path, opened, first):
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(layer_tar({first: b""}) + os.urandom(50_000)))
    assert not holds_image(path)
    with pytest.raises(ImageInvalid, match="neither of an OCI image layout nor from docker save"):
        opened(path)
    assert not (tmp_path / "blobs/spool").exists()


@pytest.mark.parametrize("first", ["./", "blobs/", "./blobs/sha256/x", "oci-layout", "0" * 64 + "/", "a" * 64 + ".tar"])
def test_a_compressed_image_begins_like_one(tmp_path, first):
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(layer_tar({first: Directory() if first.endswith("/") else b"", "index.json": b""})))
    assert holds_image(path)


@pytest.mark.parametrize("built", [True, False])
def test_what_no_registry_has_may_be_with_a_daemon(monkeypatch, opened, built):
    def absent(*_):
        raise ImageNotFound("not there", hint="see above")

    monkeypatch.setattr("propolis.image.registry.source.RegistrySource.find", absent)
    monkeypatch.setattr("propolis.image.daemon.address.has_socket", lambda: built)
    for name in ("myapp:dev", "localhost/myapp:dev"):
        with pytest.raises(ImageNotFound) as caught:
            opened(name)
        hint = f"see above; if it was built on this host, name it docker-daemon:{name}"
        assert caught.value.hint == (hint if built else "see above")
    with pytest.raises(ImageNotFound) as caught:
        opened(f"myapp@sha256:{'0' * 64}")
    assert caught.value.hint == "see above"
