import bz2
import gzip
import lzma
import sys

import pytest

from propolis.errors import KernelUnsuitable
from propolis.guest import compression

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PLAIN = b"module " * 1000
FORMS = {
    "xz": lzma.compress(PLAIN),
    "lzma": lzma.compress(PLAIN, format=lzma.FORMAT_ALONE),
    "zstd": zstd.compress(PLAIN),
    "gzip": gzip.compress(PLAIN),
    "bzip2": bz2.compress(PLAIN),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_undone(form):
    assert compression.decompress(FORMS[form], 1 << 20, "x") == PLAIN


@pytest.mark.parametrize("form", FORMS)
def test_what_follows_the_data_is_ignored(form):
    assert compression.decompress(FORMS[form] + b"\x12\x34\x56\x78", 1 << 20, "x") == PLAIN


@pytest.mark.parametrize("form", FORMS)
def test_truncation_is_noticed(form):
    with pytest.raises(KernelUnsuitable, match="truncated"):
        compression.decompress(FORMS[form][:-4], 1 << 20, "x")


@pytest.mark.parametrize("form", FORMS)
def test_a_bomb_is_refused(form):
    with pytest.raises(KernelUnsuitable, match="larger"):
        compression.decompress(FORMS[form], len(PLAIN) - 1, "x")


@pytest.mark.parametrize("form", FORMS)
def test_damage_is_noticed(form):
    data = FORMS[form]
    with pytest.raises(KernelUnsuitable):
        compression.decompress(data[:14] + bytes(byte ^ 0xFF for byte in data[14:]), 1 << 20, "x")


def test_plain_data_stays():
    assert compression.decompress(PLAIN, 10, "x") is PLAIN
