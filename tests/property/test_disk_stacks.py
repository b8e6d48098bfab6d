"""Random stacks of layers, merged by us, give the tree that unpacking them one after the other would."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from disks import check, file, other, push, read, write
from propolis.disk.below import Below
from propolis.disk.ext4 import tree
from propolis.disk.ext4.writer import LayerWriter
from propolis.disk.layer import write_layer
from propolis.disk.merged import push_merged
from propolis.disk.raw import RawWriter
from propolis.errors import ImageInvalid, LayerUnsupported
from propolis.spec import DiskFormat
from propolis.tree import Kind

NAMES = st.sampled_from([b"a", b"b", b"c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("file"), PATHS, st.binary(max_size=9)),
        st.tuples(st.just("directory"), PATHS, st.integers(0, 0o777)),
        st.tuples(st.just("whiteout"), PATHS, st.none()),
        st.tuples(st.just("opaque"), PATHS, st.none()),
    ),
    max_size=8,
)


def items(changes):
    """Entries of a layer that mentions each path once, parents before children, as tools write them."""
    chosen = {}
    for kind, path, value in changes:
        chosen[path] = (kind, value)
    made, files = [], set()
    for path, (kind, value) in sorted(chosen.items()):
        above = [path[:at] for at in range(len(path)) if path[at : at + 1] == b"/"]
        if any(parent in files for parent in above):
            continue
        if kind == "file":
            made.append(file(path, value))
        elif kind == "directory":
            made.append(other(Kind.DIRECTORY, path, mode=value))
        elif kind == "whiteout":
            made.append(other(Kind.WHITEOUT, path))
        else:
            made += [other(Kind.DIRECTORY, path, mode=0o700), other(Kind.OPAQUE, path)]
        if kind in ("file", "whiteout"):
            files.add(path)
    return made


def unpacked(layers):
    """Path to mode or content, as containerd unpacks a stack onto a directory; None where it cannot."""
    tree = {}

    def remove(path):
        for known in [known for known in tree if known == path or known.startswith(path + b"/")]:
            del tree[known]

    for layer in layers:
        written = set()
        for entry, pieces in layer:
            path = entry.path
            parents = [path[:at] for at in range(len(path)) if path[at : at + 1] == b"/"]
            for parent in parents:
                if isinstance(tree.get(parent), bytes):
                    return None
                tree.setdefault(parent, 0o755)
                written.add(parent)
            if entry.kind is Kind.WHITEOUT:
                remove(path)
                continue
            if entry.kind is Kind.OPAQUE:
                for known in [known for known in tree if known.startswith(path + b"/") and known not in written]:
                    del tree[known]
                continue
            if entry.kind is Kind.FILE:
                remove(path)
                tree[path] = b"".join(pieces)
            else:
                if isinstance(tree.get(path), bytes):
                    remove(path)
                tree[path] = entry.mode
            written.add(path)
    return tree


@pytest.mark.skipif(shutil.which("e2fsck") is None, reason="e2fsck is not installed")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(CHANGES, min_size=1, max_size=3))
def test_a_merged_stack_is_what_unpacking_gives(changes):
    layers = [items(some) for some in changes]
    expected = unpacked(layers)
    if expected is None:
        return
    with tempfile.TemporaryDirectory() as directory:
        disks = []
        for number, layer in enumerate(layers):
            with contextlib.closing(Below(lambda: list(disks))) as below:
                disks.append(write(Path(directory) / str(number), layer, lower=below))
        merged = Path(directory) / "merged"
        descriptor = os.open(merged, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0))
        try:
            with contextlib.closing(Below(tuple)) as nothing:
                writer = LayerWriter(RawWriter(descriptor), what="it", lower=nothing)
                push_merged(disks, writer)
                writer.finish("key")
        finally:
            os.close(descriptor)
        check(merged)
        found = {
            path: content if inode.mode >> 12 == 8 else inode.mode & 0o7777
            for path, (inode, content, xattrs) in read(merged).items()
            if path
        }
        assert found == expected
        assert not any(xattrs for _, _, xattrs in read(merged).values())


DENSE = st.lists(st.sampled_from([b"a", b"b"]), min_size=1, max_size=3).map(b"/".join)
TARGETS = st.one_of(DENSE, DENSE.map(lambda path: b"/" + path), DENSE.map(lambda path: b"../" + path))
ANYTHING = st.lists(
    st.one_of(
        st.builds(file, DENSE, st.binary(max_size=9), uid=st.integers(0, 9), xattrs=st.just({b"user.a": b"x"})),
        st.builds(other, st.just(Kind.DIRECTORY), DENSE, mode=st.integers(0, 0o777), mtime_ns=st.integers(0, 9)),
        st.builds(other, st.just(Kind.SYMLINK), DENSE, link=TARGETS),
        st.builds(other, st.just(Kind.HARDLINK), DENSE, link=DENSE),
        st.builds(other, st.sampled_from([Kind.WHITEOUT, Kind.OPAQUE]), DENSE),
    ),
    max_size=7,
)
"""Entries in any order, also such as no tool writes."""


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.lists(ANYTHING, min_size=1, max_size=2), ANYTHING, st.sampled_from([2, 1 << 16]))
def test_asking_the_layers_below_at_the_end_changes_nothing(below, top, most_objects):
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "MOST_OBJECTS", most_objects)  # with few, directories are packed away meanwhile
        disks = []
        for number, layer in enumerate(below):
            with contextlib.closing(Below(lambda: list(disks))) as lower, contextlib.suppress(ImageInvalid):
                disks.append(write(Path(directory) / str(number), layer, lower=lower))

        def at_once(disk):
            with contextlib.closing(Below(lambda: disks)) as lower:
                write(disk, top, lower=lower)
                return lower.consulted

        def at_the_end(disk):
            def pushed(sink):
                push(sink, top)
                return "key"

            with disk.open("w+b", buffering=0) as file:
                return write_layer(file.fileno(), DiskFormat.RAW, "layer it", pushed, lambda: disks).leans

        found = []
        for make in (at_once, at_the_end):
            disk = Path(directory) / "top"
            try:
                found.append((make(disk), disk.read_bytes()))
            except (ImageInvalid, LayerUnsupported) as error:
                found.append(str(error))
        assert found[0] == found[1]


def test_links_and_holes_survive_the_merge(tmp_path):
    first = write(tmp_path / "1", [file(b"a", b"x" * 5000, 1 << 20, b"y"), other(Kind.HARDLINK, b"b", link=b"a")])
    second = write(tmp_path / "2", [file(b"c", b"z")])
    descriptor = os.open(tmp_path / "merged", os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0))
    with contextlib.closing(Below(tuple)) as nothing:
        writer = LayerWriter(RawWriter(descriptor), what="it", lower=nothing)
        push_merged([first, second], writer)
        writer.finish("key")
    os.close(descriptor)
    found = read(tmp_path / "merged")
    assert found[b"a"][0].number == found[b"b"][0].number
    assert found[b"a"][1] == b"x" * 5000 + bytes(1 << 20) + b"y"
    assert (tmp_path / "merged").stat().st_size < 1 << 20
