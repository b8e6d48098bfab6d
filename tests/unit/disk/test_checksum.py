import importlib
import sys

import pytest

from propolis.disk import checksum


@pytest.fixture
def without_library(monkeypatch):
    """The module as it is where the library has no wheel."""
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    yield importlib.reload(checksum)
    monkeypatch.undo()
    importlib.reload(checksum)


def test_the_known_value_without_the_final_inversion():
    assert checksum.crc32c(checksum.INITIAL, b"123456789") ^ 0xFFFFFFFF == 0xE3069283


def test_sums_can_be_continued():
    whole = checksum.crc32c(checksum.INITIAL, b"abcdef")
    assert checksum.crc32c(checksum.crc32c(checksum.INITIAL, b"abc"), b"def") == whole


def test_the_table_gives_what_the_library_gives(without_library):
    assert "google" not in without_library._extend.__module__
    assert without_library.crc32c(checksum.INITIAL, b"123456789") ^ 0xFFFFFFFF == 0xE3069283
    assert without_library.crc32c(7, b"") == 7
