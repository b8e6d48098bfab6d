"""Random entries in random order give the tree that a simple model says, and a file system that e2fsck finds sound."""

import itertools
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from disks import check, read, write
from propolis.disk.ext4 import packing, tree
from propolis.disk.ext4.tree import OPAQUE, ORIGIN
from propolis.errors import ImageInvalid
from propolis.tree import Entry, Kind

NAMES = st.sampled_from([b"a", b"b", b"c", b"\xff\xfe", b"n" * 255])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)
PIECES = st.lists(
    st.one_of(
        st.sampled_from([1, 100, 4096, 5000, 12288]),
        st.builds(lambda byte, count: bytes([byte]) * count, st.integers(1, 255), st.sampled_from([1, 95, 4096, 9000])),
    ),
    max_size=4,
)
ATTRIBUTES = {
    "mode": st.integers(0, 0o7777),
    "uid": st.integers(0, 0xFFFFFFFE),
    "gid": st.integers(0, 0xFFFFFFFE),
    "mtime_ns": st.integers(-(1 << 31) * 10**9, ((1 << 34) - (1 << 31)) * 10**9 - 1),
    "xattrs": st.dictionaries(
        st.sampled_from([b"user.a", b"trusted.long-name", b"security.x", b"user.\xe4"]),
        st.binary(max_size=60),
        max_size=3,
    ),
}
DEVICES = st.tuples(st.integers(0, 0xFFF), st.integers(1, 0xFFFFF))
TARGETS = st.one_of(PATHS, PATHS.map(lambda path: b"/" + path), st.sampled_from([b"..", b"../../b", b".", b"x" * 60]))


@st.composite
def items(draw):
    kind = draw(st.sampled_from([*Kind, Kind.FILE, Kind.FILE, Kind.DIRECTORY]))
    path = draw(PATHS)
    if kind in (Kind.WHITEOUT, Kind.OPAQUE):
        return Entry(kind, path if kind is Kind.WHITEOUT else draw(st.sampled_from([path, b""]))), []
    if kind is Kind.HARDLINK:
        return Entry(kind, path, link=draw(PATHS)), []
    more, pieces = {}, []
    if kind is Kind.FILE:
        pieces = draw(PIECES)
        more["size"] = sum(piece if isinstance(piece, int) else len(piece) for piece in pieces)
    elif kind is Kind.SYMLINK:
        more["link"] = draw(TARGETS)
    elif kind in (Kind.CHARACTER, Kind.BLOCK):
        more["device"] = draw(DEVICES)
    return Entry(kind, path, **{name: draw(value) for name, value in ATTRIBUTES.items()}, **more), pieces


PACKED = ((0, packing.LARGE), (0, 0), (2, 0), (5, 2))
"""After how many entries directories are packed away, and from how many names on while they are in use, too."""


class Impossible(Exception):
    """What the model has no tree for."""


class Thing:
    def __init__(self, entry, pieces=()):
        self.entry, self.opaque = entry, False
        self.content = b"".join(piece if isinstance(piece, bytes) else bytes(piece) for piece in pieces)


class Model:
    """Paths to things, unpacked in order, as one would with a directory."""

    def __init__(self, pushed):
        self.things = {b"": Thing(Entry(Kind.DIRECTORY, b""))}
        self.late = {}
        for entry, pieces in pushed:
            getattr(self, f"_{entry.kind.name.lower()}", self._plain)(entry, pieces)
        for entry in self.late.values():
            target = self.things.get(self._canonical(entry.link))
            if target is None or target.entry.kind is Kind.WHITEOUT:
                raise Impossible
            self._link(entry, target)
        if self.things[b""].opaque:
            for path, thing in self.things.items():
                thing.opaque = thing.opaque or (b"/" not in path and thing.entry.kind is Kind.DIRECTORY)

    def _plain(self, entry, pieces):
        self.late.pop(entry.path, None)
        self._put(self._canonical(entry.path), Thing(entry, pieces))

    def _directory(self, entry, pieces):
        self.late.pop(entry.path, None)
        path = self._canonical(entry.path)
        if path in self.things and self.things[path].entry.kind is Kind.DIRECTORY:
            self.things[path].entry = entry
        else:
            self._put(path, Thing(entry))

    def _hardlink(self, entry, pieces):
        self.late.pop(entry.path, None)
        target = self.things.get(entry.link)
        if target is None or target.entry.kind is Kind.WHITEOUT:
            self.late[entry.path] = entry
        else:
            self._link(entry, target)

    def _whiteout(self, entry, pieces):
        path = self._canonical(entry.path)
        if path not in self.things:
            self.things[path] = Thing(entry)
        elif self.things[path].entry.kind is Kind.DIRECTORY:
            self.things[path].opaque = True

    def _opaque(self, entry, pieces):
        self.things[self._walk(entry.path)].opaque = True

    def _link(self, entry, target):
        if target.entry.kind is Kind.DIRECTORY:
            raise Impossible
        path = self._canonical(entry.path)
        if self.things.get(path) is not target:
            self._put(path, target)

    def _put(self, path, thing):
        if path in self.things:
            thing.opaque = thing.entry.kind is Kind.DIRECTORY
            for gone in [known for known in self.things if known == path or known.startswith(path + b"/")]:
                del self.things[gone]
        self.things[path] = thing

    def _canonical(self, path):
        above, _, name = path.rpartition(b"/")
        above = self._walk(above)
        return above + b"/" + name if above else name

    def _walk(self, path):
        at, rest, links = b"", path.split(b"/"), 0
        while rest:
            name = rest.pop(0)
            if name in (b"", b"."):
                continue
            if name == b"..":
                at = at.rpartition(b"/")[0]
                continue
            here = at + b"/" + name if at else name
            if here not in self.things or self.things[here].entry.kind is Kind.WHITEOUT:
                self._put(here, Thing(Entry(Kind.DIRECTORY, here)))
            entry = self.things[here].entry
            if entry.kind is Kind.DIRECTORY:
                at = here
            elif entry.kind is Kind.SYMLINK:
                links += 1
                if links > 40:
                    raise Impossible
                rest = entry.link.split(b"/") + rest
                at = b"" if entry.link.startswith(b"/") else at
            else:
                raise Impossible
        return at


def told(entry, content, opaque):
    """What the disk has to say of a thing."""
    if entry.kind is Kind.WHITEOUT:
        return 0o020000, 0, 0, 0, b"", {}
    types = {Kind.FILE: 8, Kind.DIRECTORY: 4, Kind.SYMLINK: 10, Kind.CHARACTER: 2, Kind.BLOCK: 6, Kind.FIFO: 1}
    mode = types[entry.kind] << 12 | (0o777 if entry.kind is Kind.SYMLINK else entry.mode)
    xattrs = dict(entry.xattrs) | ({OPAQUE: b"y"} if opaque else {})
    return mode, entry.uid, entry.gid, entry.mtime_ns, entry.link or content, xattrs


@pytest.mark.skipif(shutil.which("e2fsck") is None, reason="e2fsck is not installed")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(items(), max_size=14))
def test_the_disk_holds_what_the_model_says(pushed):
    with tempfile.TemporaryDirectory() as directory:
        disk = Path(directory) / "disk"
        try:
            model = Model(pushed)
        except Impossible:
            for most, large in ((tree.MOST_OBJECTS, packing.LARGE), *PACKED):
                with mock.patch.object(tree, "MOST_OBJECTS", most), mock.patch.object(packing, "LARGE", large):
                    with pytest.raises(ImageInvalid, match="layer it"):
                        write(disk, pushed)
            return
        write(disk, pushed)
        check(disk)
        found = read(disk)
        assert {
            path: (inode.mode, inode.uid, inode.gid, inode.mtime_ns, content, without_origin(xattrs))
            for path, (inode, content, xattrs) in found.items()
        } == {path: told(thing.entry, thing.content, thing.opaque) for path, thing in model.things.items()}
        assert links(found.items(), lambda value: value[0].number) == links(model.things.items(), id)
        for path, thing in model.things.items():
            if thing.entry.kind is Kind.WHITEOUT:
                assert found[path.rpartition(b"/")[0]][2][ORIGIN] == b""
            elif thing.entry.kind in (Kind.CHARACTER, Kind.BLOCK):
                assert found[path][0].device == thing.entry.device
        again = write(Path(directory) / "again", pushed, cut=777)
        assert again.read_bytes() == disk.read_bytes()
        for most, large in PACKED:
            with mock.patch.object(tree, "MOST_OBJECTS", most), mock.patch.object(packing, "LARGE", large):
                packed = write(Path(directory) / "packed", pushed)
            assert packed.read_bytes() == disk.read_bytes()
            packed.unlink()


def without_origin(xattrs):
    return {name: value for name, value in xattrs.items() if name != ORIGIN}


def links(pairs, identity):
    """The sets of paths that are one and the same inode."""
    ordered = sorted(((identity(value), path) for path, value in pairs))
    return {frozenset(path for _, path in group) for _, group in itertools.groupby(ordered, lambda pair: pair[0])}
