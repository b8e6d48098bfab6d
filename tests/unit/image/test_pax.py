import base64

import pytest

from propolis.image import pax


def record(key, value):
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length += 1
    return str(length).encode() + body


def test_records_may_hold_newlines_and_equal_signs():
    payload = record(b"SCHILY.xattr.a", b"x=\n12 y=z\n\0") + record(b"path", b"p" * 200)
    assert pax.records(payload) == {b"SCHILY.xattr.a": b"x=\n12 y=z\n\0", b"path": b"p" * 200}


@pytest.mark.parametrize(
    "payload",
    [
        b"garbage",
        b"5 a=b\n",
        b"7 a=b\n",
        b"06 a=",
        b"-6 a=b\n",
        b"6 a=bX",
        b"6 abc\n",
        b"5 =b\n",
        b"99999999999999999999 a=b\n",
        b"3 \n",
        record(b"path", b"a\0b"),
        record(b"a\0b", b"c"),
    ],
)
def test_malformed_records_are_refused(payload):
    with pytest.raises(ValueError, match="extended header"):
        pax.records(payload)


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b"0", 0), (b"1.5", 1_500_000_000), (b"-1.25", -1_250_000_000), (b"2.", 2 * 10**9), (b"1.0000000019", 10**9 + 1)],
)
def test_times_have_signs_and_fractions(text, expected):
    assert pax.nanoseconds(text) == expected


@pytest.mark.parametrize("text", [b"", b"x", b"--1", b"1.-5", b"1e9", b"9" * 30, b" 1"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="not a"):
        pax.nanoseconds(text)


def test_attributes_of_both_spellings():
    value = bytes(range(256))
    found = pax.xattrs(
        {
            b"SCHILY.xattr.user.a": value,
            b"LIBARCHIVE.xattr.user.a": b"AA",
            b"LIBARCHIVE.xattr.user.%62": base64.b64encode(value).rstrip(b"="),
            b"mtime": b"1",
        }
    )
    assert found == {b"user.a": value, b"user.b": value}


@pytest.mark.parametrize(
    "records",
    [
        {b"SCHILY.xattr.": b"x"},
        {b"SCHILY.xattr." + b"n" * 256: b"x"},
        {b"SCHILY.xattr.user.a": bytes(65537)},
        {b"LIBARCHIVE.xattr.user.a": b"***"},
        {b"SCHILY.xattr.user.%d" % n: b"" for n in range(1025)},
    ],
)
def test_attributes_that_linux_cannot_store_are_refused(records):
    with pytest.raises(ValueError, match="extended attribute"):
        pax.xattrs(records)


@pytest.mark.parametrize(
    ("extents", "size", "stored"),
    [
        ([(0, 5), (4, 5)], 100, 10),
        ([(5, 5), (0, 5)], 100, 10),
        ([(0, 101)], 100, 101),
        ([(0, 5)], 100, 6),
        ([(0, -5), (0, 10)], 100, 5),
    ],
)
def test_impossible_sparse_maps_are_refused(extents, size, stored):
    with pytest.raises(ValueError, match="sparse map"):
        pax.checked_extents(extents, size, stored)


def test_empty_extents_are_dropped():
    assert pax.checked_extents([(0, 5), (5, 0), (9, 1), (10, 0)], 10, 6) == [(0, 5), (9, 1)]
    assert pax.listed_extents(b"0,5,9,1") == [(0, 5), (9, 1)]
    assert pax.listed_extents(b"") == []
