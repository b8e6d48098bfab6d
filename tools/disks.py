"""Layer disks for tests: made of listed entries, looked at by e2fsck and the kernel."""

import contextlib
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from propolis.disk.ext4.node import Node
from propolis.disk.ext4.reader import Inode, Reader
from propolis.disk.ext4.structs import EXT4_ROOT_INO, S_IFDIR
from propolis.disk.ext4.tree import LowerLayers
from propolis.disk.ext4.writer import TREE, LayerWriter
from propolis.disk.raw import RawWriter
from propolis.tree import Entry, Kind, TreeSink

Item = tuple[Entry, list[bytes | int]]
"""An entry and its content: bytes, and lengths of holes."""


class NothingBelow:
    """The lower layers of a layer that is the lowest."""

    def node(self, path: bytes) -> Node | None:
        """There is none."""
        del path
        return None

    def content(self, path: bytes) -> Iterator[bytes | int]:
        """Nothing has no content."""
        raise AssertionError(path)

    def top_names(self) -> set[bytes]:
        """No names."""
        return set()


def file(path: bytes, *pieces: bytes | int, **attributes: object) -> Item:
    """A FILE of the size of its pieces."""
    size = sum(piece if isinstance(piece, int) else len(piece) for piece in pieces)
    return Entry(Kind.FILE, path, size=size, **attributes), list(pieces)  # type: ignore[arg-type]


def other(kind: Kind, path: bytes, **attributes: object) -> Item:
    """An entry without content."""
    return Entry(kind, path, **attributes), []  # type: ignore[arg-type]


def push(sink: TreeSink, items: Iterable[Item], cut: int = 1 << 18) -> None:
    """Give the items to `sink`, content in pieces of at most `cut` bytes, from a buffer that is reused."""
    buffer = bytearray(cut)
    for entry, pieces in items:
        sink.entry(entry)
        for piece in pieces:
            if isinstance(piece, int):
                sink.hole(piece)
                continue
            for start in range(0, len(piece), cut):
                part = piece[start : start + cut]
                buffer[: len(part)] = part
                sink.data(memoryview(buffer)[: len(part)])
                sink.commit()


def write(path: Path, items: Iterable[Item], *, cut: int = 1 << 18, lower: LowerLayers | None = None) -> Path:
    """Make `path` the disk of a layer of these items."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0))
    try:
        writer = LayerWriter(RawWriter(descriptor), what="layer it", lower=lower or NothingBelow())
        push(writer, items, cut)
        size = writer.finish("key")
        assert os.fstat(descriptor).st_size == size
    finally:
        os.close(descriptor)
    return path


def read(path: Path) -> dict[bytes, tuple[Inode, bytes, dict[bytes, bytes]]]:
    """Every path of a layer's tree: inode, content or target, extended attributes."""
    found = {}
    with contextlib.closing(Reader(path)) as reader:
        pending = [(b"", reader.children(EXT4_ROOT_INO)[TREE])]
        while pending:
            name, number = pending.pop()
            inode = reader.inode(number)
            content = b""
            if inode.kind == S_IFDIR:
                prefix = name + b"/" if name else b""
                pending += [(prefix + child, of) for child, of in reader.children(number).items()]
            elif inode.mode >> 12 in (8, 10):
                pieces = reader.content(inode) if inode.mode >> 12 == 8 else [reader.link(inode)]
                content = b"".join(piece if isinstance(piece, bytes) else bytes(piece) for piece in pieces)
            found[name] = inode, content, reader.xattrs(inode)
    return found


def check(disk: Path) -> None:
    """Let e2fsck judge."""
    checked = subprocess.run(["e2fsck", "-fn", disk], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@contextlib.contextmanager
def mounted(point: Path, *arguments: str | Path) -> Iterator[Path]:
    """Mount at `point`, which is made, for the duration of the context."""
    point.mkdir(parents=True)
    subprocess.run(["mount", *arguments, point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)
