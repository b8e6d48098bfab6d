import contextlib

import pytest

from disks import file, other, push, read, write
from propolis.disk.below import Below
from propolis.disk.layer import write_layer
from propolis.errors import DiskError, ImageInvalid
from propolis.spec import DiskFormat
from propolis.tree import Kind

LOWEST = [
    file(b"d/f", b"low", 5000, b"end", uid=70000, gid=80000, mtime_ns=-5, xattrs={b"user.a": b"x" * 300}),
    file(b"gone/f", b"x"),
    file(b"opaque/f", b"x"),
    file(b"file/f", b"x"),
    other(Kind.SYMLINK, b"way", link=b"d"),
    other(Kind.BLOCK, b"device", device=(259, 300)),
]
MIDDLE = [
    other(Kind.WHITEOUT, b"gone"),
    other(Kind.OPAQUE, b"opaque"),
    file(b"opaque/new", b"y"),
    file(b"file", b"now a file"),
    other(Kind.DIRECTORY, b"d", mode=0o700, uid=5),
]


@pytest.fixture
def below(tmp_path):
    disks = [write(tmp_path / "lowest", LOWEST), write(tmp_path / "middle", MIDDLE)]
    with contextlib.closing(Below(lambda: disks)) as opened:
        yield opened


def content(below, path):
    return b"".join(piece if isinstance(piece, bytes) else bytes(piece) for piece in below.content(path))


def test_a_file_is_found_with_all_its_attributes(below):
    node = below.node(b"d/f")
    assert (node.uid, node.gid, node.mtime_ns, node.size) == (70000, 80000, -5, 5006)
    assert node.xattrs == {b"user.a": b"x" * 300}
    assert content(below, b"d/f").rstrip(b"\0").startswith(b"low")
    assert content(below, b"d/f").endswith(b"end")
    assert below.node(b"way").link == b"d"
    assert below.node(b"device").device == (259, 300)


def test_the_topmost_layer_that_has_a_directory_tells_its_attributes(below):
    assert (below.node(b"d").mode, below.node(b"d").uid) == (0o040700, 5)


@pytest.mark.parametrize("path", [b"gone", b"gone/f", b"opaque/f", b"file/f", b"never", b"d/never", b"d/f/below"])
def test_what_is_deleted_hidden_or_never_was_is_not_there(below, path):
    assert below.node(path) is None
    assert content(below, path) == b""


def test_nothing_is_opened_before_the_first_question(tmp_path):
    below = Below(lambda: pytest.fail("too early"))
    assert not below.consulted
    below.close()
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"nothing")
    with contextlib.closing(Below(lambda: [damaged])) as below, pytest.raises(DiskError, match="damaged"):
        below.node(b"x")


def test_links_and_ways_lead_to_lower_layers_and_copy_what_they_need(tmp_path, below):
    items = [
        file(b"way/new", b"new"),
        other(Kind.HARDLINK, b"link", link=b"way/f"),
        other(Kind.HARDLINK, b"again", link=b"d/f"),
    ]
    found = read(write(tmp_path / "top", items, lower=below))
    assert {b"d", b"d/new", b"d/f", b"link", b"again"} == found.keys() - {b""}
    assert found[b"link"][0] == found[b"again"][0] == found[b"d/f"][0]
    assert len(found[b"link"][1]) == 5006
    assert found[b"d"][0].mode == 0o040700


@pytest.mark.parametrize("hiding", [other(Kind.OPAQUE, b"d"), other(Kind.WHITEOUT, b"d/f"), other(Kind.WHITEOUT, b"d")])
def test_what_this_layer_hides_cannot_be_linked_to(tmp_path, below, hiding):
    with pytest.raises(ImageInvalid, match="does not exist"):
        write(tmp_path / "top", [hiding, other(Kind.HARDLINK, b"link", link=b"d/f")], lower=below)


def test_an_opaque_root_hides_every_name_below(tmp_path, below):
    found = read(write(tmp_path / "top", [other(Kind.OPAQUE, b""), file(b"d", b"x")], lower=below))
    assert found.keys() - {b"", b"d"} == {b"gone", b"opaque", b"file", b"way", b"device"}
    assert all(found[name][0].mode == 0o020000 for name in (b"opaque", b"file", b"way", b"device"))


def layer(path, items, disks):
    """The disk of a layer that is made while those below may still be."""
    pushes = []

    def pushed(sink):
        pushes.append(1)
        push(sink, items)
        return "key"

    with path.open("w+b", buffering=0) as file:
        assert write_layer(file.fileno(), DiskFormat.RAW, "layer it", pushed, lambda: disks).leans
    return read(path), len(pushes)


def test_what_an_entry_says_of_a_directory_counts_also_if_it_comes_late(tmp_path):
    disks = [
        write(tmp_path / "low", [other(Kind.DIRECTORY, b"d", mode=0o700), other(Kind.DIRECTORY, b"e", mode=0o711)])
    ]
    items = [file(b"d/f"), file(b"e/f"), other(Kind.WHITEOUT, b"e/g"), other(Kind.DIRECTORY, b"d", mode=0o751)]
    found, pushes = layer(tmp_path / "top", items, disks)
    assert (found[b"d"][0].mode & 0o777, found[b"e"][0].mode & 0o777, pushes) == (0o751, 0o711, 1)
    assert found[b"e"][2] == {b"trusted.overlay.origin": b""}


def test_an_error_that_only_an_assumption_makes_is_none(tmp_path):
    disks = [write(tmp_path / "low", [other(Kind.SYMLINK, b"way", link=b"d")])]
    items = [file(b"way/f", b"content"), other(Kind.HARDLINK, b"also", link=b"way")]
    found, pushes = layer(tmp_path / "top", items, disks)
    assert (found[b"d/f"][1], found[b"also"][1], pushes) == (b"content", b"d", 2)


def test_an_error_that_is_one_stays_so(tmp_path):
    disks = [write(tmp_path / "low", [file(b"file")])]
    for items in ([file(b"file/f")], [file(b"d/f"), other(Kind.HARDLINK, b"link", link=b"d")]):
        with pytest.raises(ImageInvalid, match=r"lies below|hard link to a directory"):
            layer(tmp_path / "top", items, disks)
