import os
import random
import tracemalloc

import pytest

from disks import NothingBelow, file, other, push, read, write
from propolis.disk.ext4 import plan
from propolis.disk.ext4.node import Node
from propolis.disk.ext4.structs import S_IFREG
from propolis.disk.ext4.writer import LayerWriter
from propolis.disk.raw import RawWriter
from propolis.errors import ImageInvalid, LayerUnsupported
from propolis.tree import Entry, Kind

CONTENT = random.Random(1).randbytes(40_000)
ITEMS = [
    other(Kind.DIRECTORY, b"d", mode=0o700),
    file(b"d/f", CONTENT, 9000, CONTENT[:5000], xattrs={b"user.a": b"1"}),
    file(b"d/f2", CONTENT[:100]),
    other(Kind.SYMLINK, b"s", link=b"t" * 100),
    other(Kind.WHITEOUT, b"gone"),
    other(Kind.HARDLINK, b"late", link=b"z"),
    file(b"z", CONTENT[:4096]),
]


def test_the_same_entries_give_the_same_bytes_however_their_content_is_cut(tmp_path):
    first = write(tmp_path / "disk", ITEMS).read_bytes()
    for cut in (1, 100, 4095, 4096, 4097, 20_000):
        assert write(tmp_path / "disk", ITEMS, cut=cut).read_bytes() == first


def test_all_there_is_comes_back(tmp_path):
    found = read(write(tmp_path / "disk", ITEMS))
    assert found.keys() == {b"", b"d", b"d/f", b"d/f2", b"s", b"gone", b"late", b"z"}
    assert found[b"d/f"][1] == CONTENT + bytes(9000) + CONTENT[:5000]
    assert found[b"late"][0] == found[b"z"][0]


def test_content_is_not_kept_in_memory(tmp_path):
    piece = bytes(range(256)) * 1024
    tracemalloc.start()
    try:
        write(tmp_path / "disk", [file(b"f", *[piece] * 100)])
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


class OneFile(NothingBelow):
    """A lower layer with a large file `low`."""

    def node(self, path):
        if path != b"low":
            return None
        node = Node(S_IFREG | 0o644)
        node.size = 50 << 18
        return node

    def content(self, path):
        return (number.to_bytes(1, "little") * (1 << 18) for number in range(50))


def test_a_linked_file_of_a_lower_layer_is_copied_piece_by_piece(tmp_path):
    tracemalloc.start()
    try:
        disk = write(tmp_path / "disk", [other(Kind.HARDLINK, b"high", link=b"low")], lower=OneFile())
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    found = read(disk)
    assert found[b"high"][0] == found[b"low"][0]
    assert found[b"high"][1] == b"".join(OneFile().content(b"low"))


def test_a_layer_larger_than_a_disk_holds_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "most_content", lambda _: 64)
    with pytest.raises(LayerUnsupported, match="layer it unpacks to more"):
        write(tmp_path / "disk", [file(b"f", b"x" * (64 * 4096))])


def test_nothing_is_taken_for_a_file_system_before_finish(tmp_path):
    descriptor = os.open(tmp_path / "disk", os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0))
    try:
        writer = LayerWriter(RawWriter(descriptor), what="it", lower=NothingBelow())
        push(writer, ITEMS)
        writer.entry(Entry(Kind.DIRECTORY, b"last"))
        assert (tmp_path / "disk").read_bytes()[:4096] == bytes(4096)
        size = writer.finish("key")
        assert os.fstat(descriptor).st_size == size
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(("size", "given", "words"), [(5, b"1234", "less content"), (3, b"1234", "more content")])
def test_content_that_is_not_as_long_as_its_size_says_is_refused(tmp_path, size, given, words):
    def push(sink):
        sink.entry(Entry(Kind.FILE, b"f", size=size))
        sink.data(memoryview(given))
        sink.entry(Entry(Kind.FILE, b"g"))

    with (tmp_path / "disk").open("w+b") as disk, pytest.raises(ImageInvalid, match=words):
        push(LayerWriter(RawWriter(disk.fileno()), what="layer it", lower=NothingBelow()))


def test_an_empty_piece_of_content_is_nothing(tmp_path):
    with (tmp_path / "disk").open("w+b") as disk:
        writer = LayerWriter(RawWriter(disk.fileno()), what="layer it", lower=NothingBelow())
        writer.entry(Entry(Kind.FILE, b"f"))
        writer.data(memoryview(b""))
        assert writer.finish("key") > 0
