"""A stack of layer disks as one tree: what overlayfs would show, pushed into a `TreeSink`.

Upper names hide lower ones, whiteouts and opaque directories are observed and leave no trace. Names come in the order
of their bytes, so that the same stack gives the same entries.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from propolis.disk.below import root_directory
from propolis.disk.ext4.reader import Inode, Reader
from propolis.disk.ext4.structs import EXT4_ROOT_INO, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG
from propolis.disk.ext4.tree import OPAQUE
from propolis.disk.ext4.writer import TREE
from propolis.tree import Entry, Kind, TreeSink

_KINDS = {
    S_IFREG: Kind.FILE,
    S_IFDIR: Kind.DIRECTORY,
    S_IFLNK: Kind.SYMLINK,
    S_IFCHR: Kind.CHARACTER,
    S_IFBLK: Kind.BLOCK,
    S_IFIFO: Kind.FIFO,
}
_OVERLAY = b"trusted.overlay."
_DEEPEST = 4096


class _Place(NamedTuple):
    """An inode of one disk of the stack."""

    reader: Reader
    inode: Inode


_Stack = list[_Place]
"""What the disks have at one path, topmost first: one file, or the directories whose names merge."""


def push_merged(disks: Sequence[Path], sink: TreeSink) -> None:
    """Push the tree that `disks`, bottom first, show when they are stacked.

    Raises:
        DiskDamaged: a disk cannot be read, or is not a layer's.
    """
    with contextlib.ExitStack() as opened:
        readers = [opened.enter_context(contextlib.closing(Reader(disk))) for disk in reversed(disks)]
        root = root_directory(disks)
        sink.entry(
            Entry(Kind.DIRECTORY, b"", root.mode & 0o7777, root.uid, root.gid, root.mtime_ns, xattrs=_kept(root.xattrs))
        )
        links: dict[tuple[int, int], bytes] = {}
        for path, place in _walk([_Place(reader, _tree(reader)) for reader in readers]):
            _push(path, place, links, sink)


def _tree(reader: Reader) -> Inode:
    number = reader.children(EXT4_ROOT_INO).get(TREE)
    if number is None:
        raise reader.damaged()
    return reader.inode(number)


def _walk(roots: _Stack) -> Iterator[tuple[bytes, _Place]]:
    """Every path below the root, a directory before what is in it."""
    pending: list[tuple[bytes, _Stack]] = _names(b"", _merging(roots))
    while pending:
        path, stack = pending.pop()
        yield path, stack[0]
        if stack[0].inode.kind == S_IFDIR:
            if path.count(b"/") > _DEEPEST:
                raise stack[0].reader.damaged()
            pending += _names(path, stack)


def _names(path: bytes, stack: _Stack) -> list[tuple[bytes, _Stack]]:
    """What is in a directory, last name first."""
    children = [(place, place.reader.children(place.inode.number)) for place in stack]
    found = []
    for name in sorted({name for _, names in children for name in names}, reverse=True):
        places = [_Place(place.reader, place.reader.inode(names[name])) for place, names in children if name in names]
        merged = _merging(places)
        if merged:
            found.append((path + b"/" + name if path else name, merged))
    return found


def _merging(places: _Stack) -> _Stack:
    """Those of `places` at one path that can be seen; none where the topmost is a whiteout."""
    kept: _Stack = []
    for place in places:
        if place.inode.kind == S_IFDIR:
            kept.append(place)
            if OPAQUE in place.reader.xattrs(place.inode):
                break
        else:
            is_whiteout = place.inode.kind == S_IFCHR and place.inode.device == (0, 0)
            return kept or ([] if is_whiteout else [place])
    return kept


def _push(path: bytes, place: _Place, links: dict[tuple[int, int], bytes], sink: TreeSink) -> None:
    reader, inode = place
    kind = _KINDS.get(inode.kind)
    if kind is None:
        raise reader.damaged()
    if kind is not Kind.DIRECTORY:
        identity = (id(reader), inode.number)
        first = links.setdefault(identity, path)
        if first != path:
            sink.entry(Entry(Kind.HARDLINK, path, link=first))
            return
    sink.entry(
        Entry(
            kind,
            path,
            inode.mode & 0o7777,
            inode.uid,
            inode.gid,
            inode.mtime_ns,
            inode.size if kind is Kind.FILE else 0,
            reader.link(inode) if kind is Kind.SYMLINK else b"",
            inode.device if kind in (Kind.CHARACTER, Kind.BLOCK) else (0, 0),
            _kept(reader.xattrs(inode)),
        )
    )
    for piece in reader.content(inode) if kind is Kind.FILE else ():
        if isinstance(piece, int):
            sink.hole(piece)
        else:
            sink.data(memoryview(piece))
            sink.commit()


def _kept(xattrs: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    return {name: value for name, value in xattrs.items() if not name.startswith(_OVERLAY)}
