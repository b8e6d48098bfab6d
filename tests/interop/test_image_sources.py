"""Images made and copied by skopeo and umoci are read as those tools mean them."""

import hashlib
import json
import shutil
import subprocess
import tarfile

import pytest

from propolis.errors import InvalidArgument
from propolis.image.layers import unpack
from propolis.image.opening import open_image
from propolis.image.store import BlobStore
from propolis.spec import Architecture
from propolis.testing.images import write_layout
from propolis.testing.trees import MemorySink
from propolis.tree import Kind

pytestmark = pytest.mark.skipif(
    shutil.which("skopeo") is None or shutil.which("umoci") is None, reason="needs skopeo and umoci"
)


def run(*command, **options):
    subprocess.run([str(part) for part in command], check=True, capture_output=True, **options)


@pytest.fixture
def base(tmp_path):
    """A layout with an image of two layers by umoci: files are added, changed and deleted."""
    layout, bundle = tmp_path / "base", tmp_path / "bundle"
    tree = {"bin/": b"", "etc/": b"", "etc/gone": b"", "etc/kept": b"old", "data": b"d" * 300_000}
    write_layout(layout, [{name: node for name, node in tree.items() if not name.endswith("/")}], config={"Cmd": ["x"]})
    run("umoci", "unpack", "--rootless", "--image", f"{layout}:latest", bundle)
    (bundle / "rootfs/etc/gone").unlink()
    (bundle / "rootfs/etc/kept").write_text("new")
    (bundle / "rootfs" / ("long" * 40)).write_text("long")
    run("umoci", "repack", "--image", f"{layout}:second", bundle)
    run("umoci", "config", "--image", f"{layout}:second", "--config.env", "A=b", "--config.user", "1:2")
    return layout


def opened(text, directory):
    return open_image(str(text), Architecture.X86_64, BlobStore(directory / "blobs"))


def tree_of(image):
    """The image's files by path, layers applied."""
    files = {}
    for layer in image.layers:
        sink = MemorySink()
        with image.open_layer(layer) as blob:
            unpack(blob, layer, sink)
        for entry in sink.entries:
            if entry.kind is Kind.WHITEOUT:
                files.pop(entry.path, None)
            elif entry.kind is Kind.FILE:
                files[entry.path] = hashlib.sha256(sink.contents[entry.path]).hexdigest()
    return files


def test_umoci_layers_and_config(base, tmp_path):
    image = opened(f"oci:{base}:second", tmp_path)
    assert len(image.layers) == 2
    assert (image.config.env, image.config.user, image.config.cmd) == (("A=b",), "1:2", ("x",))
    files = tree_of(image)
    assert set(files) == {b"data", b"etc/kept", b"long" * 40}
    assert files[b"etc/kept"] == hashlib.sha256(b"new").hexdigest()
    assert b"etc/gone" in tree_of(opened(f"oci:{base}:latest", tmp_path))


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("oci:{}/copy:v1", []),
        ("oci-archive:{}/copy.tar:v1", []),
        ("docker-archive:{}/copy.tar:example.org/x:v1", []),
        ("oci:{}/copy:v1", ["--dest-compress-format", "zstd", "--dest-compress"]),
        ("oci-archive:{}/copy.tar:v1", ["--format", "v2s2"]),
        ("dir:{}/copy", []),
        ("dir:{}/copy", ["--format", "v2s2"]),
        ("dir:{}/copy", ["--dest-compress-format", "zstd", "--dest-compress"]),
        ("dir:{}/copy", ["--dest-decompress"]),
    ],
)
def test_every_copy_by_skopeo_is_the_same_image(base, tmp_path, target, options):
    reference = target.format(tmp_path)
    result = subprocess.run(
        ["skopeo", "copy", "--insecure-policy", *options, f"oci:{base}:second", reference],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode and "v2s2" in options:
        pytest.skip(f"this skopeo cannot: {result.stderr[-200:]}")
    assert result.returncode == 0, result.stderr
    original, copy = opened(f"oci:{base}:second", tmp_path), opened(reference, tmp_path)
    assert [layer.diff_id for layer in copy.layers] == [layer.diff_id for layer in original.layers]
    assert copy.config == original.config
    assert tree_of(copy) == tree_of(original)
    bare = reference.partition(":")[2]
    assert opened(bare, tmp_path).digest == copy.digest


def test_skopeo_reads_what_write_layout_makes(tmp_path):
    for compression in ("none", "gzip", "zstd"):
        digest = write_layout(tmp_path / compression, [{"a": b"b"}], config={"Cmd": ["a"]}, compression=compression)
        shown = subprocess.run(
            ["skopeo", "inspect", f"oci:{tmp_path / compression}:latest"], capture_output=True, check=True
        )
        assert json.loads(shown.stdout)["Digest"] == digest
    run("umoci", "unpack", "--rootless", "--image", f"{tmp_path / 'gzip'}:latest", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/a").read_bytes() == b"b"


def test_the_hint_for_a_transport_of_others_is_a_command_that_skopeo_understands(base, tmp_path):
    with pytest.raises(InvalidArgument) as caught:
        opened("ostree:some/place", tmp_path)
    command = caught.value.hint.partition("skopeo copy ")[2].partition(";")[0]
    assert command == "ostree:some/place oci:DIR:TAG"
    run("skopeo", "copy", "--insecure-policy", f"oci:{base}:latest", "oci:DIR:TAG", cwd=tmp_path)
    assert tree_of(opened(f"oci:{tmp_path}/DIR:TAG", tmp_path)) == tree_of(opened(f"{base}:latest", tmp_path))


def test_gnu_tar_and_python_agree_on_a_real_tree(tmp_path):
    source, path = "/usr/include", tmp_path / "x.tar"
    run("tar", "-cf", path, "--format=pax", "-C", source, ".")
    from propolis.testing.images import describe_layer

    data = path.read_bytes()
    sink = MemorySink()
    with path.open("rb", buffering=0) as blob:
        unpack(blob, describe_layer(data), sink)
    with tarfile.open(path) as tar:
        expected = [
            (info.name.removeprefix("./").removeprefix("."), info.mode, info.size, info.linkname) for info in tar
        ]
    assert [
        (e.path.decode(), e.mode, e.size, "" if e.kind is Kind.DIRECTORY else e.link.decode()) for e in sink.entries
    ] == [
        (name, mode, size, link.removeprefix("./") if link.startswith("./") else link)
        for name, mode, size, link in expected
    ]
