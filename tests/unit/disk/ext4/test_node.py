import os
import sys

import pytest

from propolis.disk.ext4.node import decode_time, encode_device, encode_time, is_device, shown


@pytest.mark.parametrize(
    "second", [0, 1, -1, -(1 << 31), (1 << 31) - 1, 1 << 31, (1 << 32) + 5, (1 << 34) - (1 << 31) - 1]
)
@pytest.mark.parametrize("fraction", [0, 1, 999_999_999])
def test_times_come_back(second, fraction):
    low, extra = encode_time(second * 10**9 + fraction)
    assert 0 <= low < 1 << 32
    assert 0 <= extra < 1 << 32
    assert decode_time(low, extra) == second * 10**9 + fraction


def test_a_time_before_1970_has_no_epoch_bits():
    """What an implementation is known to get wrong, so that files come from the year 2378."""
    assert encode_time(-100 * 10**9) == (0x100000000 - 100, 0)


@pytest.mark.parametrize(("time", "second"), [(-(1 << 62), -(1 << 31)), (1 << 80, (1 << 34) - (1 << 31) - 1)])
def test_times_out_of_range_are_clamped(time, second):
    assert decode_time(*encode_time(time)) == second * 10**9


def test_small_numbers_of_devices_have_the_old_form_and_large_ones_the_new():
    assert encode_device(1, 3) == bytes([3, 1, 0, 0])
    assert encode_device(259, 300) == bytes(4) + (44 | 259 << 8 | 256 << 12).to_bytes(4, "little")
    assert encode_device(0xFFF, 0xFFFFF) == bytes(4) + b"\xff" * 4


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's own encoding")
def test_the_new_form_is_linuxs():
    assert encode_device(259, 70000)[4:] == os.makedev(259, 70000).to_bytes(4, "little")


def test_numbers_that_no_device_has():
    assert is_device(4095, 0xFFFFF)
    assert not any(is_device(*numbers) for numbers in [(4096, 0), (0, 1 << 20), (-1, 0), (0, -1)])


def test_paths_are_shown_short_and_printable():
    assert shown(b"") == "/"
    assert shown(b"a\xff") == "a\\xff"
    assert len(shown(b"x" * 4000)) < 130
