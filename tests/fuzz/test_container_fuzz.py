"""Changed and cut containers: only errors of ours, soon, and no more memory than the file has."""

import contextlib
import os
import random
import time
import tracemalloc

import pytest

from propolis.disk import container
from propolis.errors import PropolisError
from propolis.spec import DiskFormat


@pytest.mark.parametrize("disk_format", [DiskFormat.VHD, DiskFormat.VHDX])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_changed_only_errors_of_ours_come_out(tmp_path, disk_format, seed):
    chance = random.Random(seed)
    path = tmp_path / "disk"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0))
    disk = container.create(descriptor, disk_format)
    disk.write(0, [memoryview(b"x" * 5000)])
    disk.write(2 << 20, [memoryview(b"y" * 5000)])
    disk.finish(3 << 20, "key")
    os.close(descriptor)
    good = path.read_bytes()
    places = ((0, 8), (65536, 100), (131072, 100), (196608, 100), (262144, 100), (2 << 20, 200), (3 << 20, 24))
    places += (((2 << 20) + 65536, 64), (len(good) - 512, 512))
    interesting = [at for start, length in places for at in range(start, start + length)]
    interesting = [at for at in interesting if at < len(good)]
    tracemalloc.start()
    began = time.monotonic()
    for _ in range(60):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 6)):
            data[chance.choice(interesting)] = chance.choice([0, 1, 6, 7, 0x7F, 0x80, 0xFF])
        path.write_bytes(data[: chance.choice([len(data), len(data), chance.randrange(len(data))])])
        with contextlib.suppress(PropolisError):
            found = container.faults(path)
            assert len(found) <= 100
        with contextlib.suppress(PropolisError), contextlib.closing(container.open_disk(path)) as disk:
            for offset in (0, disk.size // 2, disk.size - 512):
                with contextlib.suppress(PropolisError):
                    assert len(disk.read(offset, 512)) == 512
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()
    assert time.monotonic() - began < 60
