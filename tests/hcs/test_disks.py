"""Disks as the stand-in's reader judges them: what we and qemu-img write is taken, each kind of damage has its code."""

import shutil
import struct
import subprocess

import google_crc32c
import pytest

from propolis.disk.writable import make_writable
from propolis.spec import DiskFormat

CONTROLLER = "df6d0690-79e5-55b6-a5ec-c1e2f77f580a"
KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def attach(core, document, vm_id):
    """Create a system with this disk; returns the result."""

    def attach(path, *, grant=True, **options):
        if grant:
            assert core.grant(vm_id, path) == 0
        attachment = {"Type": "VirtualDisk", "Path": str(path)} | options
        document["VirtualMachine"]["Devices"]["Scsi"][CONTROLLER]["Attachments"]["0"] = attachment
        system, result = core.create(vm_id, document)
        core.close(system)
        return result

    return attach


@pytest.fixture
def vhdx(tmp_path):
    path = tmp_path / "disk.vhdx"
    make_writable(path, DiskFormat.VHDX, {"file": b"content"}, size=64 * MIB)
    return path


@pytest.fixture
def vhd(tmp_path):
    path = tmp_path / "disk.vhd"
    make_writable(path, DiskFormat.VHD, {"file": b"content"}, size=16 * MIB)
    return path


def test_what_we_write_is_taken(attach, vhdx, vhd):
    assert attach(vhdx).code == 0
    assert attach(vhd, ReadOnly=True).code == 0


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
@pytest.mark.parametrize("options", ["subformat=dynamic,block_size=1M", "subformat=fixed", "block_size=32M"])
def test_what_qemu_writes_is_taken(attach, tmp_path, options):
    path = tmp_path / "other.vhdx"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vhdx", "-o", options, path, "64M"], check=True)
    assert attach(path).code == 0


def test_access_is_granted_to_this_machine(core, attach, vhdx, vm_id):
    assert attach(vhdx, grant=False).code == 0x80070005
    assert core.grant("6f3f7c1e-0000-4000-8000-000000000000", vhdx) == 0
    assert attach(vhdx, grant=False).code == 0x80070005
    assert attach(vhdx).code == 0
    assert core.revoke(vm_id, vhdx) == 0
    assert attach(vhdx, grant=False).code == 0x80070005
    assert core.call("HcsGrantVmGroupAccess", str(vhdx)) == 0
    assert attach(vhdx, grant=False).code == 0
    assert core.call("HcsRevokeVmGroupAccess", str(vhdx)) == 0


def test_an_access_list_fills_up(core, vhdx, vm_id):
    assert [core.grant(vm_id, vhdx) for _ in range(65)] == [0] * 64 + [0x80070057]
    assert core.revoke(vm_id, vhdx) == 0
    assert core.grant(vm_id, vhdx) == 0
    assert core.revoke(vm_id, vhdx) == 0


def test_grants_for_what_is_not_there(core, tmp_path, vm_id):
    assert core.grant(vm_id, tmp_path / "none") == 0x80070002
    assert core.grant(vm_id, "relative") == 0x80070057


def test_extension_and_content_agree(attach, vhdx, vhd):
    assert attach(vhdx.rename(vhdx.with_suffix(".img"))).code == 0xC03A0014
    assert attach(vhd.rename(vhd.with_suffix(".vhdx"))).code in (0xC03A0004, 0xC03A0013)
    assert attach(vhdx.with_suffix(".img").rename(vhdx.with_suffix(".vhd"))).code == 0xC03A0001


def write(path, offset, data):
    with path.open("r+b") as file:
        file.seek(offset, 0 if offset >= 0 else 2)
        file.write(data)


def header(path, which, offset, data):
    """Change a header and put its checksum right."""
    _resealed(path, (64 + 64 * which) * KIB, 4 * KIB, offset, data)


def region_tables(path, offset, data):
    for table in (192, 256):
        _resealed(path, table * KIB, 64 * KIB, offset, data)


def _resealed(path, start, length, offset, data):
    with path.open("r+b") as file:
        file.seek(start)
        block = bytearray(file.read(length))
        block[offset : offset + len(data)] = data
        block[4:8] = bytes(4)
        block[4:8] = struct.pack("<I", google_crc32c.value(bytes(block)))
        file.seek(start)
        file.write(block)


def regions(path):
    """Where the block allocation table and the metadata lie."""
    data = path.read_bytes()
    places = {}
    for number in range(struct.unpack_from("<I", data, 192 * KIB + 8)[0]):
        at = 192 * KIB + 16 + 32 * number
        places[data[at : at + 4].hex()] = struct.unpack_from("<Q", data, at + 16)[0]
    return places["6677c22d"], places["06a27c8b"]


def item(path, guid):
    """Where a metadata item's value and its table entry lie."""
    metadata = regions(path)[1]
    data = path.read_bytes()
    at = data.index(bytes.fromhex(guid), metadata, metadata + 64 * KIB)
    return metadata + struct.unpack_from("<I", data, at + 16)[0], at


def bat(path, number, value):
    write(path, regions(path)[0] + 8 * number, struct.pack("<Q", value))


SIZE, PARAMETERS, SECTOR = "2442a52f", "3767a1ca", "1dbf4181"


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda path: write(path, 0, b"vhdxfilX"), 0xC03A0004),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), 0xC03A0013),
        (lambda path: write(path, 64 * KIB + 100, b"x"), 0xC03A0010),
        (lambda path: write(path, 128 * KIB + 100, b"x"), 0xC03A0010),
        (lambda path: header(path, 0, 66, b"\2\0"), 0xC03A0005),
        (lambda path: header(path, 0, 4000, b"x"), 0xC03A0010),
        (lambda path: [header(path, which, 8, bytes(8)) for which in (0, 1)], 0xC03A0010),
        (lambda path: write(path, 192 * KIB + 60000, b"x"), 0xC03A0010),
        (lambda path: write(path, 256 * KIB + 60000, b"x"), 0xC03A0010),
        (lambda path: region_tables(path, 8, struct.pack("<I", 1)), 0xC03A0010),
        (lambda path: region_tables(path, 32, struct.pack("<Q", MIB + 512)), 0xC03A0010),
        (lambda path: region_tables(path, 32, struct.pack("<Q", 1 << 40)), 0xC03A0013),
        (lambda path: write(path, regions(path)[1], b"x"), 0xC03A0010),
        (lambda path: write(path, item(path, SIZE)[1], b"x"), 0xC03A0005),
        (lambda path: write(path, item(path, SIZE)[0], struct.pack("<Q", 1000)), 0xC03A0012),
        (lambda path: write(path, item(path, SIZE)[0], struct.pack("<Q", 1 << 50)), 0xC03A0012),
        (lambda path: write(path, item(path, PARAMETERS)[0], struct.pack("<I", 3 * MIB)), 0xC03A000B),
        (lambda path: write(path, item(path, PARAMETERS)[0] + 4, b"\2"), 0xC03A000D),
        (lambda path: write(path, item(path, SECTOR)[0], struct.pack("<I", 1024)), 0xC03A001D),
        (lambda path: bat(path, 5, 7), 0xC03A000A),
        (lambda path: bat(path, 5, 6 | 1 << 10), 0xC03A000A),
        (lambda path: bat(path, 5, 6 | 4000 << 20), 0xC03A000A),
        (lambda path: bat(path, 5, 6 | regions(path)[0]), 0xC03A000A),
        (lambda path: bat(path, 5, struct.unpack("<Q", path.read_bytes()[regions(path)[0] :][:8])[0]), 0xC03A000A),
    ],
)
def test_damage_to_a_vhdx(attach, vhdx, damage, code):
    damage(vhdx)
    result = attach(vhdx)
    assert result.code == code, result
    assert str(vhdx) in result.message


def test_a_log_is_not_replayed_on_a_read_only_disk(attach, vhdx):
    for which in (0, 1):
        header(vhdx, which, 48, b"\1" * 16)
    assert attach(vhdx).code == 0
    assert attach(vhdx, ReadOnly=True).code == 0xC03A0010


def footer(path, offset, data):
    """Change a VHD's footer and put its checksum right."""
    block = bytearray(path.read_bytes()[-512:])
    block[offset : offset + len(data)] = data
    block[64:68] = bytes(4)
    block[64:68] = struct.pack(">I", ~sum(block) & 0xFFFFFFFF)
    write(path, -512, block)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda path: write(path, -512, b"x"), 0xC03A0001),
        (lambda path: write(path, -400, b"x"), 0xC03A0002),
        (lambda path: footer(path, 12, b"\0\2"), 0xC03A0005),
        (lambda path: footer(path, 8, bytes(4)), 0xC03A0003),
        (lambda path: footer(path, 16, bytes(8)), 0xC03A0003),
        (lambda path: footer(path, 60, struct.pack(">I", 3)), 0x80070032),
        (lambda path: footer(path, 48, struct.pack(">Q", 1 << 20)), 0xC03A0013),
        (lambda path: path.write_bytes(path.read_bytes()[-512:]), 0xC03A0013),
    ],
)
def test_damage_to_a_vhd(attach, vhd, damage, code):
    damage(vhd)
    assert attach(vhd).code == code
