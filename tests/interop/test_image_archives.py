"""What propolis saves, skopeo and umoci read as the same image; what they and podman's kin write, propolis loads."""

import json
import shutil
import subprocess
import tarfile

import pytest

from propolis.image.opening import open_image
from propolis.images.catalog import inspect
from propolis.images.collection import prune
from propolis.images.loading import load
from propolis.images.saving import save
from propolis.spec import Architecture, PullPolicy
from propolis.testing.images import write_layout
from registries import PROGRAM, docker_registry
from stores import Store

pytestmark = pytest.mark.skipif(
    shutil.which("skopeo") is None or shutil.which("umoci") is None, reason="needs skopeo and umoci"
)
NAME = "example.org/app:v1"


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True).stdout


def copy(source, target, *options):
    run(
        "skopeo",
        "copy",
        "--insecure-policy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        *options,
        source,
        target,
    )


@pytest.fixture
def store(tmp_path, monkeypatch):
    for name in ("CACHE", "DATA", "CONFIG"):
        monkeypatch.setenv(f"PROPOLIS_{name}", str(tmp_path / name.lower()))
    return Store(tmp_path / "cache")


@pytest.fixture
def layout(tmp_path):
    """An image of two layers."""
    layout = tmp_path / "layout"
    write_layout(
        layout, [{"data": b"d" * 300_000}, {"etc/kept": b"x"}], config={"Cmd": ["x"], "Env": ["A=b"]}, tag=NAME
    )
    return layout


@pytest.fixture
def saved(store, layout, tmp_path):
    (image,) = load(layout)
    save(NAME, tmp_path / "saved.tar")
    return tmp_path / "saved.tar", image.digest


def test_skopeo_reads_it_as_a_layout_with_the_same_digest(saved, tmp_path):
    path, digest = saved
    assert json.loads(run("skopeo", "inspect", f"oci-archive:{path}:v1"))["Digest"] == digest
    copy(f"oci-archive:{path}:v1", f"oci:{tmp_path}/copy:v1")
    assert json.loads((tmp_path / "copy/index.json").read_bytes())["manifests"][0]["digest"] == digest


def test_skopeo_reads_it_as_docker_s(saved, tmp_path):
    path, _ = saved
    (wanted,) = inspect(NAME)
    copy(f"docker-archive:{path}:{NAME}", f"dir:{tmp_path}/copy")
    manifest = json.loads((tmp_path / "copy/manifest.json").read_bytes())
    assert manifest["config"]["digest"] == wanted["ConfigDigest"]
    assert len(manifest["layers"]) == 2


def test_umoci_unpacks_it(saved, tmp_path):
    with tarfile.open(saved[0]) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert run("umoci", "ls", "--layout", tmp_path / "unpacked") == b"v1\n"
    run("umoci", "unpack", "--rootless", "--image", f"{tmp_path}/unpacked:v1", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/data").read_bytes() == b"d" * 300_000


@pytest.mark.parametrize(
    ("target", "options", "same"),
    [
        ("oci-archive:{}/x.tar:" + NAME, [], True),
        ("docker-archive:{}/x.tar:" + NAME, [], False),
        ("docker-archive:{}/x.tar:" + NAME, ["--format", "v2s2"], False),
        ("oci-archive:{}/x.tar:" + NAME, ["--dest-compress-format", "zstd", "--dest-compress"], False),
    ],
)
def test_what_skopeo_writes_is_loaded(store, layout, tmp_path, target, options, same):
    copy(f"oci:{layout}:{NAME}", target.format(tmp_path), *options)
    (image,) = load(tmp_path / "x.tar")
    assert image.names == (NAME,)
    if same:
        assert image.digest == json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"]
    opened = open_image(NAME, Architecture.X86_64, store.blobs, PullPolicy.NEVER)
    assert (opened.config.env, opened.digest) == (("A=b",), image.digest)
    save(NAME, tmp_path / "again.tar")
    assert json.loads(run("skopeo", "inspect", f"oci-archive:{tmp_path}/again.tar:v1"))["Digest"] == image.digest


@pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="needs docker-registry")
def test_by_way_of_a_registry_it_stays_the_same_image(saved, store, tmp_path):
    path, digest = saved
    with docker_registry(tmp_path) as address:
        copy(f"oci-archive:{path}:v1", f"docker://{address}/app:v1")
        prune(all=True)
        pulled = open_image(f"{address}/app:v1", Architecture.X86_64, store.blobs, PullPolicy.ALWAYS)
        assert pulled.digest == digest
        save(f"{address}/app:v1", tmp_path / "again.tar")  # its layers are fetched for it
    assert json.loads(run("skopeo", "inspect", f"oci-archive:{tmp_path}/again.tar:v1"))["Digest"] == digest
    copy(f"oci-archive:{tmp_path}/again.tar:v1", f"oci:{tmp_path}/copy:v1")  # which verifies every blob
