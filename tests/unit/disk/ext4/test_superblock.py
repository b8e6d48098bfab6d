import pytest

from disks import file, write
from propolis.disk.ext4 import plan, structs
from propolis.disk.ext4.superblock import build, identity, recorded_size


def test_identifiers_come_from_the_key_alone():
    assert identity("a") == identity("a")
    assert identity("a").uuid != identity("b").uuid
    assert identity("a").uuid[6] >> 4 == 8
    assert identity("a").uuid[8] >> 6 == 2


def test_a_disk_tells_its_size_in_its_first_block(tmp_path):
    content = write(tmp_path / "disk", [file(b"f", b"x")]).read_bytes()
    assert recorded_size(content[:4096]) == len(content)
    assert recorded_size(content[:2047]) is None
    assert recorded_size(bytes(4096)) is None


@pytest.mark.parametrize("at", [1024, 1024 + 4, 1024 + 0x68, 1024 + 0x3FC, 2047])
def test_a_superblock_with_a_changed_byte_tells_nothing(tmp_path, at):
    block = bytearray(write(tmp_path / "disk", [file(b"f", b"x")]).read_bytes()[:4096])
    block[at] ^= 1
    assert recorded_size(bytes(block)) is None


@pytest.mark.parametrize("size", [16 << 20, 1 << 40, (16 << 40) - 4096, 16 << 40, 64 << 40])
def test_sizes_beyond_32_bits_of_blocks_are_told_too(size):
    layout = plan.before_content(size)
    block = build(layout, identity("key", "a label"), free_blocks=5 << 32, free_inodes=1)
    assert recorded_size(block) == layout.blocks * 4096
    incompatible = int.from_bytes(block[1024 + 0x60 : 1024 + 0x64], "little")
    assert bool(incompatible & structs.EXT4_FEATURE_INCOMPAT_64BIT) == (layout.blocks >= 1 << 32)
    assert block[1024 + 0x78 :].startswith(b"a label\0")
