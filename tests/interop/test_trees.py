"""The tree that the kernel shows of our stacked disks is the one that umoci unpacks from the same image."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import zoo
from propolis.disk.cache import LayerCache
from propolis.image.layers import unpack
from propolis.image.opening import open_image
from propolis.image.store import BlobStore
from propolis.machine.build import build
from propolis.spec import Architecture, DiskFormat
from trees import walk

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root"),
    pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed"),
]


@pytest.mark.parametrize(
    "image", ["busybox_image", "debian_image", "zoo_image", pytest.param("toolchain_image", marks=pytest.mark.heavy)]
)
def test_the_stacked_disks_show_what_umoci_unpacks(image, request, tmp_path):
    reference = request.getfixturevalue(image)
    subprocess.run(
        ["umoci", "unpack", "--image", reference.removeprefix("oci:"), tmp_path / "bundle"],
        check=True,
        capture_output=True,
    )
    with stacked(reference, tmp_path) as root:
        ours = walk(root)
    theirs = walk(tmp_path / "bundle" / "rootfs")
    assert ours.keys() == theirs.keys()
    differing = {path: (ours[path], theirs[path]) for path in ours if ours[path] != theirs[path]}
    assert not differing
    assert len(ours) > 50


@pytest.mark.parametrize("layer", [zoo.first_layer, zoo.old_sparse_layer])
def test_a_layer_of_the_zoo_is_what_gnu_tar_unpacks(layer, tmp_path):
    tar, disk, theirs = tmp_path / "layer.tar", tmp_path / "disk.raw", tmp_path / "theirs"
    tar.write_bytes(layer())
    build(tar, disk)
    theirs.mkdir()
    subprocess.run(
        ["tar", "-xpPf", tar, "-C", theirs, "--numeric-owner", "--delay-directory-restore", "--xattrs-include=*"],
        check=True, capture_output=True,
    )  # fmt: skip
    with mounted(tmp_path / "ours", "-o", "loop,ro", disk):
        ours = walk(tmp_path / "ours", leave_out=frozenset({"lost+found"}))
        files = [path.stat() for path in (tmp_path / "ours" / "files").iterdir()]
    assert ours == walk(theirs)
    holes = [status for status in files if status.st_size > 512 * status.st_blocks]
    assert len(holes) >= 3, "sparse files were not kept sparse"


@contextlib.contextmanager
def stacked(reference: str, directory: Path):
    """The image's layers as the guest stacks them, mounted by this host's kernel; each disk checked by e2fsck."""
    image = open_image(reference, Architecture.X86_64, BlobStore(directory / "blobs"))
    cache = LayerCache(directory / "layers")
    with contextlib.ExitStack() as mounts:
        lower, disks = [], []
        for number, layer in enumerate(image.layers):

            def fill(sink, layer=layer):
                with image.open_layer(layer) as blob:
                    unpack(blob, layer, sink)

            diff_ids = [below.diff_id for below in image.layers[: number + 1]]
            disk = cache.disk(diff_ids, DiskFormat.RAW, fill, lambda: list(disks))
            disks.append(disk)
            checked = subprocess.run(["e2fsck", "-fn", disk], capture_output=True, text=True, check=False)
            assert checked.returncode == 0, checked.stdout
            point = directory / f"l{number}"
            mounts.enter_context(mounted(point, "-o", "loop,ro", disk))
            lower.insert(0, str(point / "tree"))
        if len(lower) == 1:
            yield Path(lower[0])
            return
        root = directory / "root"
        mounts.enter_context(mounted(root, "-t", "overlay", "-o", f"lowerdir={':'.join(lower)}", "overlay"))
        yield root


@contextlib.contextmanager
def mounted(point: Path, *arguments: str | Path):
    point.mkdir()
    subprocess.run(["mount", *arguments, point], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", point], check=True)
