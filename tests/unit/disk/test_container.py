import os

import pytest

from propolis.disk import container
from propolis.errors import InvalidArgument
from propolis.spec import DiskFormat


@pytest.mark.parametrize("disk_format", container.WRITABLE_FORMATS)
def test_the_disk_stays_in_front_and_what_comes_behind_is_of_the_told_length(tmp_path, disk_format):
    path = tmp_path / "disk"
    path.write_bytes(b"d" * 8192)
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        container.seal(descriptor, disk_format, "key")
    finally:
        os.close(descriptor)
    assert path.read_bytes()[:8192] == b"d" * 8192
    assert path.stat().st_size == 8192 + container.overhead(disk_format)


def test_what_cannot_be_written_is_refused_with_what_can():
    with pytest.raises(InvalidArgument) as caught:
        container.check(DiskFormat.VHDX)
    assert "raw" in caught.value.hint
