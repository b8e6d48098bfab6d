import pytest

from propolis.disk import c_vhd, vhd


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
