import struct

import pytest

from propolis.disk.ext4 import xattrs

NO_ONE = 0xFFFFFFFF
ACCESS = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in [(1, 6, NO_ONE), (2, 4, 70000), (4, 4, NO_ONE), (8, 1, 9), (16, 5, NO_ONE), (32, 0, NO_ONE)]
)
SETS = [
    {b"user.a": b"1"},
    {b"security.capability": b"c" * 20, b"user.empty": b"", b"trusted.overlay.opaque": b"y"},
    {b"system.posix_acl_access": ACCESS},
    {b"user.b": b"1", b"user.aa": b"22", b"user.a": b"333", b"trusted.z": b"4444", b"system.posix_acl_default": ACCESS},
]


@pytest.mark.parametrize("given", SETS)
def test_attributes_come_back_from_inode_and_block(given):
    items = xattrs.items(given)
    assert xattrs.parse_block(xattrs.build_block(items, 99, seed=1)) == given
    if xattrs.fits_in_inode(items):
        tail = xattrs.build_in_inode(items)
        assert len(tail) == xattrs.IN_INODE
        assert xattrs.parse_in_inode(tail) == given


def test_the_kernel_searches_them_in_this_order():
    assert [(index, name) for index, name, _ in xattrs.items(SETS[3])] == [
        (1, b"a"),
        (1, b"b"),
        (1, b"aa"),
        (3, b""),
        (4, b"z"),
    ]


def test_the_limits_are_met_to_the_byte():
    assert xattrs.fits_in_inode(xattrs.items({b"user.name": bytes(96 - 8 - 20)}))
    assert not xattrs.fits_in_inode(xattrs.items({b"user.name": bytes(96 - 8 - 20 + 1)}))
    largest = xattrs.items({b"user.name": bytes(4096 - 32 - 4 - 20)})
    assert xattrs.fits_in_block(largest)
    assert len(xattrs.build_block(largest, 1, 1)) == 4096
    assert not xattrs.fits_in_block(xattrs.items({b"user.name": bytes(4096 - 32 - 4 - 20 + 1)}))


def test_an_access_list_keeps_numbers_only_where_there_are_any():
    ((_, _, value),) = xattrs.items({b"system.posix_acl_access": ACCESS})
    assert len(value) == 4 + 4 * 4 + 2 * 8


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"user.", b""),
        (b"user." + b"n" * 256, b""),
        (b"system.posix_acl_access", b""),
        (b"system.posix_acl_access", ACCESS[:-1]),
        (b"system.posix_acl_default", b"\1" + ACCESS[1:]),
    ],
)
def test_what_has_no_place_is_refused(name, value):
    with pytest.raises(xattrs.Unrepresentable):
        xattrs.items({name: value})


@pytest.mark.parametrize("name", [b"com.apple.quarantine", b"user", b"system.data", b""])
def test_name_spaces_that_linux_does_not_have_are_left_out(name):
    assert xattrs.items({name: b"x", b"user.kept": b"y"}) == xattrs.items({b"user.kept": b"y"})


@pytest.mark.parametrize(
    "area", [bytes(96), b"\xff" * 96, b"\0\0\2\xea" + b"\xff" * 92, b"\0\0\2\xea\2\2\4\0" + b"\1" * 88]
)
def test_damaged_ones_are_read_without_harm(area):
    assert isinstance(xattrs.parse_in_inode(area), dict)
    assert isinstance(xattrs.parse_block(area), dict)
