"""QEMU's tools take our fixed VHDs for what they are."""

import json
import os
import shutil
import subprocess

import pytest

from disks import file, push
from propolis.disk.cache import LayerCache
from propolis.disk.writable import make_writable
from propolis.spec import DiskFormat

DIFF_ID = "sha256:" + "5" * 64
pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


def told_size(path):
    command = ["qemu-img", "info", "-f", "vpc", "--output=json", path]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["virtual-size"]


def test_a_layer_in_a_vhd_is_the_raw_layer(tmp_path):
    cache, content = LayerCache(tmp_path), os.urandom(300_000)

    def fill(sink):
        push(sink, [file(b"a", content), file(b"b", 1 << 30, b"end")])

    raw, vhd = (cache.disk([DIFF_ID], disk_format, fill) for disk_format in (DiskFormat.RAW, DiskFormat.VHD))
    assert told_size(vhd) == raw.stat().st_size == vhd.stat().st_size - 512
    subprocess.run(["qemu-img", "convert", "-f", "vpc", "-O", "raw", vhd, tmp_path / "back"], check=True)
    assert (tmp_path / "back").read_bytes() == raw.read_bytes()


@pytest.mark.parametrize("size", [16 << 20, (16 << 20) + 4096 * 77, 1 << 30, 8 << 30, 100 << 30, 1 << 40])
def test_the_size_is_right_whatever_the_geometry_rounds_to(tmp_path, size):
    make_writable(tmp_path / "disk", DiskFormat.VHD, {}, size=size)
    assert told_size(tmp_path / "disk") == (tmp_path / "disk").stat().st_size - 512 == size
