import os

import pytest

from propolis.disk import raw
from propolis.disk.ext4.stream import BlockStream
from propolis.disk.raw import RawWriter


@pytest.fixture
def descriptor(tmp_path):
    opened = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0))
    yield opened
    os.close(opened)


def content(descriptor):
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, 1 << 24)


def test_blocks_are_appended_and_places_before_filled_in(descriptor):
    stream = BlockStream(RawWriter(descriptor), 2)
    stream.append(b"a" * 5000)
    assert (stream.block, stream.is_aligned) == (3, False)
    stream.pad()
    assert (stream.block, stream.is_aligned) == (4, True)
    stream.fill(0, b"head")
    stream.append(b"b" * 10)
    stream.finish(5, "key")
    data = content(descriptor)
    assert len(data) == 5 * 4096
    assert data[:8192] == b"head".ljust(8192, b"\0")
    assert data[8192:] == (b"a" * 5000).ljust(8192, b"\0") + (b"b" * 10).ljust(4096, b"\0")


def test_memory_may_be_used_again_after_commit(descriptor):
    stream, buffer = BlockStream(RawWriter(descriptor), 0), bytearray(b"first")
    stream.append(memoryview(buffer))
    stream.commit()
    buffer[:] = b"later"
    stream.commit()
    assert content(descriptor) == b"first"


def test_more_views_than_one_system_call_takes(descriptor):
    stream = BlockStream(RawWriter(descriptor), 0)
    for number in range(5000):
        stream.append(b"%04d" % number)
    stream.commit()
    assert content(descriptor) == b"".join(b"%04d" % number for number in range(5000))


@pytest.mark.skipif(not hasattr(os, "writev"), reason="this system writes without writev")
@pytest.mark.parametrize("most", [1, 3, 5, 1000])
def test_what_the_system_takes_in_part_is_completed(descriptor, monkeypatch, most):
    """As a signal or a nearly full disk makes it."""
    whole = os.writev

    def partly(descriptor, views):
        return whole(descriptor, [memoryview(b"".join(views))[:most]])

    monkeypatch.setattr(raw.os, "writev", partly)
    stream = BlockStream(RawWriter(descriptor), 0)
    for piece in (b"abc", b"", b"defgh", b"i"):
        stream.append(piece)
    stream.commit()
    assert content(descriptor) == b"abcdefghi"
