import contextlib
import os

import pytest

from propolis.disk import container
from propolis.spec import DiskFormat


@pytest.mark.parametrize("disk_format", DiskFormat)
def test_what_is_written_is_read_again_whatever_is_around_it(tmp_path, disk_format):
    path = tmp_path / "disk"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0))
    try:
        disk = container.create(descriptor, disk_format)
        disk.write(8192, [memoryview(b"a" * 100), memoryview(b"b" * 5000)])
        disk.write(0, [memoryview(b"c" * 512)])
        disk.finish(5 << 20, "key")
    finally:
        os.close(descriptor)
    with contextlib.closing(container.open_disk(path)) as disk:
        assert disk.size == 5 << 20
        assert disk.read(0, 512) == b"c" * 512
        assert disk.read(512, 8192 - 512) == bytes(8192 - 512)
        assert disk.read(8192, 5100) == b"a" * 100 + b"b" * 5000
        assert disk.read((5 << 20) - 4096, 4096) == bytes(4096)
