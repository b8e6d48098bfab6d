"""Images of podman's and docker's own services are what skopeo has of them. docker's only where it is installed."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from daemons import COMMANDS, asked, engine
from propolis.errors import ImageNotFound
from propolis.image.layers import unpack
from propolis.image.opening import open_image
from propolis.image.store import BlobStore
from propolis.spec import Architecture
from propolis.testing.images import File, Hardlink, Symlink, write_layout
from propolis.testing.trees import MemorySink

pytestmark = pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo")
IMAGES = ("myapp:dev", "example.org:5000/a/two:1")
LAYERS = (
    {"etc/gone": b"1", "etc/kept": b"old", "data": File(content=b"d" * 300_000, mode=0o4755, uid=7, gid=1 << 20)},
    {
        "etc/.wh.gone": b"",
        "etc/kept": b"new",
        "link": Symlink("data"),
        "hard": Hardlink("etc/kept"),
        "x" * 150: b"long",
    },
)


@pytest.fixture(scope="module", params=COMMANDS)
def daemon(request):
    """The socket of a running engine without images."""
    if shutil.which(request.param) is None:
        pytest.skip(f"not installed: {request.param}")
    if os.geteuid() != 0:
        pytest.skip("an engine of the test's own needs root")
    directory = Path(tempfile.mkdtemp(prefix="engine-"))  # pytest's are too long for a socket
    with engine(request.param, directory) as place:
        yield place


@pytest.fixture(scope="module")
def loaded(daemon, tmp_path_factory, busybox_image):
    """IDs by name, of images that the engine took from archives of skopeo's."""
    images = {}
    layout = tmp_path_factory.mktemp("layout")
    write_layout(layout, LAYERS, config={"Cmd": ["/data"], "Env": ["A=b"], "User": "7"})
    for name, made in zip(IMAGES, (busybox_image, f"oci:{layout}:latest"), strict=True):
        path = tmp_path_factory.mktemp("archive") / "x.tar"
        command = ["skopeo", "copy", "--insecure-policy", made, f"docker-archive:{path}:{name}"]
        subprocess.run(command, check=True, capture_output=True)
        asked(daemon, "POST", "/images/load", path.read_bytes())
        images[name] = json.loads(asked(daemon, "GET", f"/images/{name}/json"))["Id"]
    return images


@pytest.fixture(autouse=True)
def environment(daemon, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{daemon}")


def trees(image):
    found = []
    with image:
        for layer in image.layers:
            sink = MemorySink()
            with image.open_layer(layer) as blob:
                unpack(blob, layer, sink)
            found.append([(entry, bytes(sink.contents.get(entry.path, b""))) for entry in sink.entries])
    return found


def opened(text, directory):
    return open_image(text, Architecture.X86_64, BlobStore(directory / "blobs"))


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_as_skopeo_has_it(daemon, loaded, tmp_path, name):
    here = opened(f"docker-daemon:{name}", tmp_path)
    source = f"docker-daemon:{loaded[name]}"
    command = ["skopeo", "copy", "--insecure-policy", "--src-daemon-host", f"unix://{daemon}"]
    subprocess.run([*command, source, f"dir:{tmp_path}/dir"], check=True, capture_output=True)
    there = opened(f"dir:{tmp_path}/dir", tmp_path)
    assert here.config == there.config
    assert [layer.diff_id for layer in here.layers] == [layer.diff_id for layer in there.layers]
    assert here.digest == loaded[name]
    assert trees(here) == trees(there)
    again = opened(source, tmp_path)
    assert (again.digest, again.layers, again.config) == (here.digest, here.layers, here.config)


def test_what_was_loaded_has_the_layers_that_were_saved(loaded, tmp_path, busybox_image):
    original = opened(busybox_image, tmp_path)
    image = opened("docker-daemon:myapp:dev", tmp_path)
    assert [layer.diff_id for layer in image.layers] == [layer.diff_id for layer in original.layers]
    assert trees(image) == trees(original)
    assert not list((tmp_path / "blobs/spool").iterdir())
    assert opened(f"{image.reference}@{image.digest}", tmp_path).digest == loaded["myapp:dev"]


def test_what_was_imported_from_a_tar_is_an_image(daemon, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sh").write_bytes(b"x" * 70_000)
    tar = subprocess.run(["tar", "-C", tmp_path, "-c", "bin"], check=True, capture_output=True).stdout
    asked(daemon, "POST", "/images/create?fromSrc=-&repo=imported", tar)
    (tree,) = trees(opened("docker-daemon:imported", tmp_path))
    assert {entry.path: content for entry, content in tree if content} == {b"bin/sh": b"x" * 70_000}


@pytest.mark.usefixtures("loaded")
def test_what_it_does_not_have_is_not_found_in_its_own_words(tmp_path):
    for name in ("myapp:prod", "nowhere.example/x", f"sha256:{'0' * 64}", f"myapp@sha256:{'0' * 64}"):
        with pytest.raises(ImageNotFound, match=r"does not have it: .*[Nn]o such image"):
            opened(f"docker-daemon:{name}", tmp_path)
