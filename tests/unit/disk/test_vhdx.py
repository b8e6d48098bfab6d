"""What no foreign reader looks at, and what is wrong with files that are."""

import contextlib
import os
import struct
from uuid import UUID

import pytest

from propolis.disk import c_vhdx, container
from propolis.disk.c_vhdx import MIB
from propolis.disk.checksum import INITIAL, crc32c
from propolis.disk.vhdx import VhdxWriter
from propolis.disk.vhdx_reader import VhdxReader
from propolis.errors import DiskDamaged, DiskError, InvalidArgument

BAT, METADATA = 3 * MIB, 2 * MIB


def write(path, size=3 * MIB, block_size=MIB, key="key", writes=((0, b"first"), (2 * MIB + 100, b"last"))):
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0))
    try:
        disk = VhdxWriter(descriptor, block_size)
        for offset, data in writes:
            disk.write(offset, [memoryview(data)])
        disk.finish(size, key)
    finally:
        os.close(descriptor)
    return path


def entries(data, count):
    return struct.unpack_from(f"<{count}Q", data, BAT)


def crc(data):
    return crc32c(INITIAL, data) ^ INITIAL


def test_crc32c_is_the_one_of_the_specification():
    assert crc(b"123456789") == 0xE3069283


def test_the_file_is_laid_out_as_the_specification_says(tmp_path):
    data = write(tmp_path / "disk").read_bytes()
    assert data[:8] == b"vhdxfile"
    assert data[8:24].decode("utf-16le") == "propolis"
    assert len(data) == 6 * MIB
    for number, offset in enumerate((64 << 10, 128 << 10), 1):
        head = data[offset : offset + 4096]
        fields = c_vhdx.header.unpack_from(head)
        assert fields[0] == b"head"
        assert fields[1] == crc(head[:4] + bytes(4) + head[8:])
        assert fields[2] == number
        assert fields[5:] == (bytes(16), 0, 1, MIB, MIB)
        assert fields[3] != fields[4]
        assert not any(head[c_vhdx.header.size :])
    tables = [data[offset : offset + (64 << 10)] for offset in (192 << 10, 256 << 10)]
    assert tables[0] == tables[1]
    assert c_vhdx.region_table.unpack_from(tables[0])[2] == 2
    assert c_vhdx.region_entry.unpack_from(tables[0], 16) == (c_vhdx.BAT_REGION, BAT, MIB, 1)
    assert c_vhdx.region_entry.unpack_from(tables[0], 48) == (c_vhdx.METADATA_REGION, METADATA, MIB, 1)
    assert not any(data[MIB : 2 * MIB]), "the log is empty"


def test_metadata_has_the_flags_that_nobody_checks(tmp_path):
    data = write(tmp_path / "disk").read_bytes()
    assert c_vhdx.metadata_table.unpack_from(data, METADATA) == (b"metadata", 0, 5)
    found = [c_vhdx.metadata_entry.unpack_from(data, METADATA + 32 * number) for number in range(1, 6)]
    assert [flags for _, _, _, flags, _ in found] == [4, 6, 6, 6, 6]
    values = {item: data[METADATA + offset :][:length] for item, offset, length, _, _ in found}
    assert values[c_vhdx.FILE_PARAMETERS] == struct.pack("<II", MIB, 0)
    assert values[c_vhdx.VIRTUAL_DISK_SIZE] == struct.pack("<Q", 3 * MIB)
    assert values[c_vhdx.LOGICAL_SECTOR_SIZE] == struct.pack("<I", 512)
    assert values[c_vhdx.PHYSICAL_SECTOR_SIZE] == struct.pack("<I", 4096)
    assert UUID(bytes_le=values[c_vhdx.VIRTUAL_DISK_ID]).version == 8


def test_blocks_come_in_the_order_of_their_first_write_and_absent_ones_are_zero_without_a_place(tmp_path):
    path = write(tmp_path / "disk", size=4 * MIB, writes=((3 * MIB, b"a"), (0, b"b"), (3 * MIB + 5, b"c")))
    assert entries(path.read_bytes(), 4) == (5 * MIB | 6, 2, 2, 4 * MIB | 6)
    assert path.stat().st_size == 6 * MIB


def test_a_bitmap_has_its_place_after_each_chunk(tmp_path):
    path = write(tmp_path / "disk", size=5 << 30, writes=(((4 << 30) - 1, b"ab"),))
    found = entries(path.read_bytes(), 5121)
    assert (found[4095], found[4096], found[4097]) == (4 * MIB | 6, 0, 5 * MIB | 6)
    assert len(found) == 5120 + 1
    assert path.read_bytes()[BAT + 8 * 5121 : 4 * MIB].count(0) == MIB - 8 * 5121


def test_a_bat_that_needs_more_room_lies_behind_the_payload(tmp_path):
    path = write(tmp_path / "disk", size=200 << 30, writes=((0, b"a"),))
    with path.open("rb") as file:
        file.seek((192 << 10) + 16)
        assert c_vhdx.region_entry.unpack(file.read(32)) == (c_vhdx.BAT_REGION, 5 * MIB, 2 * MIB, 1)
    assert path.stat().st_size == 7 * MIB
    assert container.faults(path) == []


def test_the_disk_is_rounded_up_to_whole_mebibytes(tmp_path):
    with contextlib.closing(container.open_disk(write(tmp_path / "disk", size=2 * MIB + 4096))) as disk:
        assert disk.size == 3 * MIB


def test_identifiers_come_from_the_key(tmp_path):
    one, same, other = (write(tmp_path / "disk", key=key).read_bytes() for key in "aab")
    assert one == same != other


@pytest.mark.parametrize("block_size", [0, 4096, 3 * MIB, 512 * MIB])
def test_sizes_of_blocks_that_cannot_be(tmp_path, block_size):
    with pytest.raises(InvalidArgument, match="blocks"):
        write(tmp_path / "disk", block_size=block_size)


def changed(path, offset, data):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def sealed(path, offset, length):
    """Give a header or region table the checksum of what it now holds."""
    with path.open("r+b") as file:
        file.seek(offset)
        data = file.read(length)
        file.seek(offset + 4)
        file.write(struct.pack("<I", crc(data[:4] + bytes(4) + data[8:])))


HEADERS = [(64 << 10, 4096), (128 << 10, 4096)]
TABLES = [(192 << 10, 64 << 10), (256 << 10, 64 << 10)]
FAULTS = {
    "first header": ([(64 << 10, b"xxxx")], [], "header 1"),
    "second header": ([((128 << 10) + 3000, b"x")], [], "header 2"),
    "header's reserved bytes": ([((128 << 10) + 3000, b"x")], HEADERS, "reserved bytes"),
    "same sequence numbers": ([((64 << 10) + 8, b"\2")], HEADERS, "same sequence number"),
    "log version": ([((64 << 10) + 64, b"\1")], HEADERS, "tells of a log"),
    "log offset": ([((128 << 10) + 72, struct.pack("<Q", MIB + 4096))], HEADERS, "log is not at"),
    "log behind the file": ([((128 << 10) + 72, struct.pack("<Q", 600 * MIB))], HEADERS, "outside of the file"),
    "first region table": ([((192 << 10) + 100, b"x")], [], "region table 1"),
    "second region table": ([((256 << 10) + 100, b"x")], [], "region table 2"),
    "tables differ": ([((256 << 10) + 44, b"\0")], TABLES, "tables differ"),
    "flags of an item": ([(METADATA + 32 + 24, b"\0")], [], "has flags 0"),
    "reserved file parameters": ([(METADATA + (64 << 10) + 4, b"\4")], [], "reserved bits of the file parameters"),
    "reserved bits in the BAT": ([(BAT + 1, b"\1")], [], "reserved bits are set"),
    "block outside": ([(BAT, struct.pack("<Q", 900 * MIB | 6))], [], "outside of the file"),
    "block at offset 0": ([(BAT, struct.pack("<Q", 6))], [], "outside of the file"),
    "blocks overlap": ([(BAT, struct.pack("<Q", 5 * MIB | 6))], [], "overlaps"),
    "block over the log": ([(BAT, struct.pack("<Q", MIB | 6))], [], "the log overlaps block 0"),
    "block over the metadata": ([(BAT, struct.pack("<Q", 2 * MIB | 6))], [], "the metadata overlaps block 0"),
    "zero block with a place": ([(BAT + 8, struct.pack("<Q", 4 * MIB | 2))], [], "has a place, but is absent"),
    "state that cannot be": ([(BAT + 8, b"\4")], [], "state 4"),
    "partial without a parent": ([(BAT + 8, b"\7")], [], "state 7"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_each_fault_is_found(tmp_path, what):
    path = write(tmp_path / "disk")
    assert container.faults(path) == []
    changes, checksums, expected = FAULTS[what]
    for offset, data in changes:
        changed(path, offset, data)
    for offset, length in checksums:
        sealed(path, offset, length)
    assert any(expected in fault for fault in container.faults(path)), container.faults(path)


def test_a_length_that_is_no_multiple_of_a_mebibyte(tmp_path):
    path = write(tmp_path / "disk")
    changed(path, path.stat().st_size, b"x")
    assert any("multiple of 1 MiB" in fault for fault in container.faults(path))


UNREADABLE = {
    "both headers": ([(64 << 10, b"x"), (128 << 10, b"x")], [], "neither of its headers"),
    "both region tables": ([(192 << 10, b"x"), (256 << 10, b"x")], [], "neither of its region tables"),
    "version": ([((64 << 10) + 66, b"\2"), ((128 << 10) + 66, b"\2")], HEADERS, "neither of its headers"),
    "unknown required region": ([((192 << 10) + 16, b"x"), ((256 << 10) + 16, b"x")], TABLES, "neither"),
    "block size": ([(METADATA + (64 << 10), struct.pack("<I", 3 * MIB))], [], "its blocks have"),
    "virtual size": ([(METADATA + (64 << 10) + 8, struct.pack("<Q", 5))], [], "the disk in it has 5 bytes"),
    "enormous": ([(METADATA + (64 << 10) + 8, struct.pack("<Q", 1 << 62))], [], "the disk in it has"),
    "large for its BAT": ([(METADATA + (64 << 10) + 8, struct.pack("<Q", 1 << 45))], [], "too short"),
    "sector size": ([(METADATA + (64 << 10) + 32, struct.pack("<I", 1024))], [], "sectors"),
    "metadata signature": ([(METADATA, b"x")], [], "metadata table is broken"),
    "item outside": ([(METADATA + 32 + 16, struct.pack("<I", MIB))], [], "outside of its region"),
    "missing item": ([(METADATA + 64, b"x")], [], "lacks the metadata item"),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_is_needed_to_read_it_must_be_right(tmp_path, what):
    path = write(tmp_path / "disk")
    changes, checksums, expected = UNREADABLE[what]
    for offset, data in changes:
        changed(path, offset, data)
    for offset, length in checksums:
        sealed(path, offset, length)
    with pytest.raises(DiskDamaged, match=expected) as caught:
        container.open_disk(path)
    assert caught.value.path == path


def test_a_parent_and_a_log_to_replay_are_told(tmp_path):
    path = write(tmp_path / "disk")
    changed(path, METADATA + (64 << 10) + 4, b"\2")
    with pytest.raises(DiskError, match="differencing"):
        VhdxReader(path)
    path = write(tmp_path / "disk")
    changed(path, (128 << 10) + 48, b"log")
    sealed(path, *HEADERS[1])
    with pytest.raises(DiskError, match="log to replay"):
        VhdxReader(path)


def test_a_block_that_is_cut_off_is_damage_when_it_is_read(tmp_path):
    path = write(tmp_path / "disk")
    os.truncate(path, 5 * MIB + 10)
    with contextlib.closing(VhdxReader(path)) as disk:
        assert disk.read(0, 5) == b"first"
        with pytest.raises(DiskDamaged, match="cut off"):
            disk.read(2 * MIB + 100, 4)
        with pytest.raises(DiskDamaged, match="outside"):
            disk.read(3 * MIB - 1, 2)
