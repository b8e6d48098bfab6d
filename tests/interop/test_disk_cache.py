"""The layer cache on a file system that is really full: a small tmpfs of the kernel's."""

import contextlib
import os
import subprocess

import pytest

from disks import file, push
from propolis.disk.cache import LayerCache
from propolis.errors import StorageFull
from propolis.spec import DiskFormat

DIFF_IDS = [f"sha256:{'1' * 64}"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.mark.parametrize("room", ["64k", "512k"])
def test_a_full_host_is_told_as_such_and_nothing_is_left(tmp_path, room):
    def large(sink):
        push(sink, [file(b"f", b"x" * (1 << 20)), file(b"g", b"x")])

    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", tmp_path], check=True)
    try:
        with pytest.raises(StorageFull) as caught:
            LayerCache(tmp_path).disk(DIFF_IDS, DiskFormat.RAW, large)
        assert caught.value.hint
        assert {path.suffix for path in tmp_path.iterdir()} <= {".lock"}
        with contextlib.suppress(StorageFull):
            LayerCache(tmp_path).disk(DIFF_IDS, DiskFormat.RAW, lambda sink: push(sink, [file(b"f", b"x")]))
    finally:
        subprocess.run(["umount", tmp_path], check=True)
