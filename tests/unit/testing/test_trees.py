import pytest

from propolis.testing.trees import MemorySink
from propolis.tree import Entry, Kind


def test_a_producer_that_reuses_memory_before_commit_is_seen():
    sink, buffer = MemorySink(), bytearray(b"before")
    sink.entry(Entry(Kind.FILE, b"a", size=6))
    sink.data(memoryview(buffer))
    buffer[:] = b"after!"
    sink.commit()
    assert sink.contents[b"a"] == b"after!"


def test_too_little_and_too_much_content_are_seen():
    sink = MemorySink()
    sink.entry(Entry(Kind.FILE, b"a", size=3))
    sink.hole(2)
    with pytest.raises(AssertionError, match="lacks 1"):
        sink.entry(Entry(Kind.DIRECTORY, b"b"))
    with pytest.raises(AssertionError, match="more content"):
        sink.data(memoryview(b"xx"))
