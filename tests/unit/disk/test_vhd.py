import pytest

from propolis.disk import c_vhd, vhd
from propolis.errors import InvalidArgument


def test_the_footer_says_what_the_specification_asks():
    size = 3 << 20
    data = vhd.footer(size, "key")
    fields = c_vhd.footer.unpack(data)
    assert len(data) == vhd.SECTOR
    assert fields[0] == b"conectix"
    assert fields[8:10] == (size, size)
    assert fields[13] == c_vhd.DISK_TYPE_FIXED
    blank = data[:64] + bytes(4) + data[68:]
    assert fields[14] == ~sum(blank) & 0xFFFFFFFF


def test_the_same_disk_has_the_same_footer_and_another_key_another_identifier():
    assert vhd.footer(1 << 20, "a") == vhd.footer(1 << 20, "a")
    assert vhd.footer(1 << 20, "a")[68:84] != vhd.footer(1 << 20, "b")[68:84]


@pytest.mark.parametrize("size", [1 << 20, 3 << 20, 600 << 20, 8 << 30, 100 << 30, 127 << 30, 2 << 40])
def test_the_geometry_fits_its_fields_and_never_exceeds_the_disk(size):
    cylinders, heads, sectors = vhd.geometry(size)
    assert 0 < cylinders <= 65535
    assert heads <= 16
    assert sectors <= 255
    assert cylinders * heads * sectors <= size // 512
    if size < 127 << 30:
        assert cylinders * heads * sectors > size // 512 * 0.98


def test_the_geometry_of_a_known_disk():
    """3 MiB, worked out by hand: 6144 sectors, 17 to the track, 4 heads."""
    assert vhd.geometry(3 << 20) == (90, 4, 17)


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk"
    with path.open("w+b") as file:
        writer = vhd.VhdWriter(file.fileno())
        writer.write(0, [memoryview(b"x" * 4096)])
        writer.finish(1 << 20, "key")
    return path


def test_a_whole_disk_has_no_faults(disk):
    assert vhd.faults(disk) == []
    assert vhd.disk_size(disk) == 1 << 20


@pytest.mark.parametrize(
    ("at", "value", "expected"),
    [(67, 0, "checksum"), (11, 0, "version"), (63, 3, "of type 3"), (54, 0x77, "tells of")],
)
def test_each_fault_of_a_footer_is_found(disk, at, value, expected):
    with disk.open("r+b") as file:
        file.seek((1 << 20) + at)
        file.write(bytes([value]))
    assert any(expected in fault for fault in vhd.faults(disk))


def test_more_than_windows_takes_is_refused(tmp_path):
    with (tmp_path / "disk").open("w+b") as file, pytest.raises(InvalidArgument, match="at most 2040 GiB"):
        vhd.VhdWriter(file.fileno()).finish(3 << 40, "key")


def test_a_file_without_a_footer_is_no_vhd(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 2000)
    assert vhd.disk_size(tmp_path / "file") is None
    (tmp_path / "file").write_bytes(b"")
    assert vhd.disk_size(tmp_path / "file") is None
