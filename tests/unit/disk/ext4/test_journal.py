import shutil
import subprocess
import uuid

import pytest

from propolis.disk.ext4 import journal

UUID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
needs_mke2fs = pytest.mark.skipif(
    shutil.which("mke2fs") is None or shutil.which("debugfs") is None, reason="e2fsprogs is not installed"
)


def test_the_superblock_has_what_the_kernel_looks_at():
    block = journal.superblock(4096, UUID.bytes)
    fields = journal.superblock_head.unpack_from(block)
    assert len(block) == 4096
    assert block[:8] == bytes.fromhex("C03B3998 00000004")
    assert fields[3:8] == (4096, 4096, 1, 1, 0)
    assert block[0x30:0x40] == UUID.bytes
    assert not any(block[journal.superblock_head.size :])


@pytest.mark.parametrize(
    ("mebibytes", "blocks"),
    [(1, 1024), (127, 1024), (128, 4096), (1 << 10, 8192), (2 << 10, 16384), (8 << 10, 16384), (16 << 10, 32768),
     (40 << 10, 65536), (64 << 10, 131072), (128 << 10, 262144), (64 << 20, 262144)],
)  # fmt: skip
def test_a_larger_file_system_has_a_larger_journal(mebibytes, blocks):
    assert journal.blocks_for(mebibytes << 20) == blocks


@needs_mke2fs
@pytest.mark.parametrize("size", [8 << 20, (128 << 20) - 4096, 128 << 20, 1 << 30, 2 << 30, 16 << 30, 32 << 30])
def test_it_is_the_block_that_mke2fs_writes(tmp_path, size):
    disk, first = tmp_path / "disk", tmp_path / "first"
    disk.touch()
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-N", "64", "-U", str(UUID), disk, f"{size >> 10}k"]
    subprocess.run(command, check=True, capture_output=True)
    told = subprocess.run(["debugfs", "-R", "bmap <8> 0", disk], check=True, capture_output=True, text=True)
    with disk.open("rb") as file:
        file.seek(int(told.stdout) * 4096)
        first.write_bytes(file.read(4096))
    assert first.read_bytes() == journal.superblock(journal.blocks_for(size), UUID.bytes)
