"""Directories as skopeo's transport `dir:` writes them, good and bad. That skopeo's own are read: `interop`."""

import gzip
import json
import shutil

import pytest

from propolis.errors import DigestMismatch, ImageError, ImageInvalid, ImageNotFound, InvalidArgument, PlatformMismatch
from propolis.image.digest import of
from propolis.image.layers import unpack
from propolis.image.opening import open_image
from propolis.image.store import BlobStore
from propolis.spec import Architecture
from propolis.testing.images import write_index, write_layout
from propolis.testing.trees import MemorySink


def as_directory(layout, target, digest):
    """What skopeo copy --all makes of an image or index of a layout."""
    target.mkdir()
    (target / "version").write_text("Directory Transport Version: 1.1\n")
    for path in (layout / "blobs/sha256").iterdir():
        data = path.read_bytes()
        manifest = data.startswith(b"{") and b'"schemaVersion"' in data
        (target / f"{path.name}{'.manifest.json' if manifest else ''}").write_bytes(data)
    shutil.copy(target / f"{digest.partition(':')[2]}.manifest.json", target / "manifest.json")
    return target


@pytest.fixture
def directory(tmp_path):
    digest = write_layout(tmp_path / "layout", [{"a": b"1"}], config={"Cmd": ["/a"]})
    return as_directory(tmp_path / "layout", tmp_path / "dir", digest)


@pytest.fixture
def opened(tmp_path):
    return lambda text, wanted=Architecture.X86_64: open_image(str(text), wanted, BlobStore(tmp_path / "blobs"))


def content(image):
    sink = MemorySink()
    with image, image.open_layer(image.layers[0]) as blob:
        unpack(blob, image.layers[0], sink)
    return bytes(sink.contents[b"a"])


def test_the_image_is_found_by_transport_and_by_path(directory, opened):
    digest = of((directory / "manifest.json").read_bytes())
    for text in (f"dir:{directory}", directory, f"dir:{directory}@{digest}"):
        image = opened(text)
        assert (image.digest, image.config.cmd, content(image)) == (digest, ("/a",), b"1")
    with pytest.raises(ImageNotFound, match="there is no sha256:0000") as caught:
        opened(f"dir:{directory}@sha256:{'0' * 64}")
    assert digest in caught.value.hint


def test_a_directory_with_a_layout_in_it_is_a_layout(directory, opened):
    (directory / "oci-layout").write_text("{}")
    with pytest.raises(ImageInvalid, match="oci-layout"):
        opened(directory)
    assert opened(f"dir:{directory}").config.cmd == ("/a",)


def test_of_several_platforms_one_is_chosen(tmp_path, opened):
    digests = {
        architecture: write_layout(
            tmp_path / "layout", [{"a": architecture.encode()}], tag=None, architecture=architecture
        )
        for architecture in Architecture
    }
    index = write_index(tmp_path / "layout", digests)
    directory = as_directory(tmp_path / "layout", tmp_path / "dir", index)
    for architecture, digest in digests.items():
        image = opened(f"dir:{directory}", architecture)
        assert image.digest == digest
        assert content(image) == architecture.encode()


def test_one_without_a_version_is_an_old_one(directory, opened):
    (directory / "version").unlink()
    assert opened(f"dir:{directory}").config.cmd == ("/a",)
    with pytest.raises(ImageNotFound, match="not an OCI image layout"):
        opened(directory)


@pytest.mark.parametrize("version", ["", "Directory Transport Version: 2.0\n", "7", "x" * 5000])
def test_one_of_another_version_is_refused(directory, opened, version):
    (directory / "version").write_text(version)
    with pytest.raises(ImageInvalid, match="version"):
        opened(f"dir:{directory}")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"schemaVersion": 1}, ImageInvalid, "schemaVersion is not 2"),
        ({"fsLayers": []}, ImageInvalid, "schema 1"),
        ({"config": None}, ImageInvalid, "config is missing"),
        ({"layers": []}, ImageInvalid, "0 layers, but its config lists 1"),
        ({"mediaType": "text/plain"}, ImageInvalid, "text/plain"),
        ({"mediaType": 7}, ImageInvalid, "not a string"),
    ],
)
def test_hostile_manifests_are_refused(directory, opened, change, error, message):
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(error, match=message):
        opened(f"dir:{directory}")


def test_what_is_missing_or_changed_is_named(directory, opened, tmp_path):
    manifest = json.loads((directory / "manifest.json").read_text())
    config, layer = (item["digest"].partition(":")[2] for item in (manifest["config"], manifest["layers"][0]))
    (directory / config).write_bytes((directory / config).read_bytes()[::-1])
    with pytest.raises(DigestMismatch, match=config[:12]):
        opened(f"dir:{directory}")
    (directory / config).unlink()
    with pytest.raises(ImageNotFound, match=config[:12]):
        opened(f"dir:{directory}")
    (directory / "manifest.json").unlink()
    with pytest.raises(ImageNotFound, match=r"no manifest\.json"):
        opened(f"dir:{directory}")
    with pytest.raises(ImageNotFound, match=r"no manifest\.json"):
        opened(f"dir:{tmp_path}/nowhere")
    assert layer


def test_a_layer_that_is_not_compressed_as_its_manifest_says_is_read_as_it_is(directory, opened):
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text())
    (layer,) = manifest["layers"]
    data = gzip.decompress((directory / layer["digest"].partition(":")[2]).read_bytes())
    (directory / of(data).partition(":")[2]).write_bytes(data)
    layer.update(digest=of(data), size=len(data))
    path.write_text(json.dumps(manifest))
    assert content(opened(f"dir:{directory}")) == b"1"


def test_names_lead_nowhere_else(directory, opened):
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["digest"] = "sha256:../../../../etc/passwd"
    path.write_text(json.dumps(manifest))
    with pytest.raises(ImageError, match="lower-case hex"):
        opened(f"dir:{directory}")


def test_another_platform_is_a_mismatch(directory, opened):
    with pytest.raises(PlatformMismatch, match="is for linux/amd64, not for linux/arm64"):
        opened(f"dir:{directory}", Architecture.AARCH64)


def test_it_has_no_names(opened):
    with pytest.raises(InvalidArgument, match="names no path"):
        opened("dir:")
