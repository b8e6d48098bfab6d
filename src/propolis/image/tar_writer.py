"""A tree becomes a tar: ustar with pax headers, GNU sparse format 1.0 where the source tells holes beforehand.

The dialect that the guest's `extract` reads (`guest/tar.h`); GNU tar and libarchive read it too. Follows POSIX.1-2008
(pax) and the GNU tar manual (sparse formats).
"""

import struct
from collections.abc import Callable, Iterator

from propolis.image.rootfs import Extents
from propolis.image.tar import BLOCK
from propolis.tree import Entry, Kind

_TYPES = {
    Kind.FILE: b"0",
    Kind.HARDLINK: b"1",
    Kind.SYMLINK: b"2",
    Kind.CHARACTER: b"3",
    Kind.BLOCK: b"4",
    Kind.DIRECTORY: b"5",
    Kind.FIFO: b"6",
}
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
_MOST_OCTAL7, _MOST_OCTAL11 = 0o7777777, 0o77777777777
_PIECE = 256 << 10


class TarWriter:
    """A `TreeSink`. The root of the tree is named `name` in the archive; without one it is left out.

    `write` gets pieces of some 256 KiB, in order; each is its own to keep.
    """

    def __init__(self, write: Callable[[bytes], None], name: bytes) -> None:
        self._write = write
        self._name = name
        self._pending = bytearray()
        self._padding = 0
        self._extents: Extents | None = None

    def tell_extents(self, extents: Extents) -> None:
        """The next entry is a file of which only these parts (start, length) are not holes."""
        self._extents = extents

    def entry(self, entry: Entry) -> None:
        """See `TreeSink.entry`; marks of layers cannot come here."""
        self._pad()
        path = self._path(entry.path)
        if not path:
            return
        pax = [(b"mtime", _seconds(entry.mtime_ns)), *((b"SCHILY.xattr." + key, v) for key, v in entry.xattrs.items())]
        size, sparse_map = entry.size, b""
        extents, self._extents = self._extents, None
        if extents is not None:
            sparse_map = _sparse_map(extents, size)
            size = len(sparse_map) + sum(length for _, length in extents)
            pax += [
                (b"GNU.sparse.major", b"1"),
                (b"GNU.sparse.minor", b"0"),
                (b"GNU.sparse.name", path),
                (b"GNU.sparse.realsize", b"%d" % entry.size),
            ]
        link = self._path(entry.link) if entry.kind is Kind.HARDLINK else entry.link
        pax += _what_is_too_large(path, link, entry, size)
        body = b"".join(_record(key, value) for key, value in pax)
        self._pending += _header(b"pax", b"x", Entry(Kind.FILE, b"", mode=0o600), len(body), b"")
        self._pending += body + bytes(-len(body) % BLOCK)
        self._pending += _header(path, _TYPES[entry.kind], entry, size, link)
        self._pending += sparse_map
        self._padding = -size % BLOCK
        self._flush(_PIECE)

    def data(self, view: memoryview) -> None:
        """See `TreeSink.data`."""
        self._pending += view
        self._flush(_PIECE)

    def hole(self, length: int) -> None:
        """See `TreeSink.hole`; it was told with the entry."""

    def commit(self) -> None:
        """See `TreeSink.commit`; everything is copied at once."""

    def finish(self) -> None:
        """End the archive."""
        self._pad()
        self._pending += bytes(2 * BLOCK)
        self._flush(1)

    def _path(self, path: bytes) -> bytes:
        return b"/".join(part for part in (self._name, path) if part)

    def _pad(self) -> None:
        self._pending += bytes(self._padding)
        self._padding = 0

    def _flush(self, least: int) -> None:
        if len(self._pending) >= least:
            pending, self._pending = self._pending, bytearray()
            self._write(bytes(pending))


def _sparse_map(extents: Extents, size: int) -> bytes:
    """The map in text; GNU tar learns only from its last entry that a file ends with a hole."""
    if not extents or sum(extents[-1]) < size:
        extents = (*extents, (size, 0))
    numbers = [len(extents), *(number for extent in extents for number in extent)]
    text = b"".join(b"%d\n" % number for number in numbers)
    return text + bytes(-len(text) % BLOCK)


def _what_is_too_large(path: bytes, link: bytes, entry: Entry, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Records for what the header has no room for."""
    if len(path) > 100:
        yield b"path", path
    if len(link) > 100:
        yield b"linkpath", link
    for key, number in ((b"uid", entry.uid), (b"gid", entry.gid)):
        if number > _MOST_OCTAL7:
            yield key, b"%d" % number
    if size > _MOST_OCTAL11:
        yield b"size", b"%d" % size


def _record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    digits = len(b"%d" % (length + len(b"%d" % length)))
    return b"%d %s=%s\n" % (length + digits, key, value)


def _seconds(nanoseconds: int) -> bytes:
    sign, rest = (b"-", -nanoseconds) if nanoseconds < 0 else (b"", nanoseconds)
    return b"%s%d.%09d" % (sign, *divmod(rest, 10**9))


def _header(path: bytes, typeflag: bytes, entry: Entry, size: int, link: bytes) -> bytes:
    fields = (
        path[:100],
        b"%07o" % entry.mode,
        b"%07o" % (entry.uid if entry.uid <= _MOST_OCTAL7 else 0),
        b"%07o" % (entry.gid if entry.gid <= _MOST_OCTAL7 else 0),
        b"%011o" % (size if size <= _MOST_OCTAL11 else 0),
        b"%011o" % min(max(entry.mtime_ns // 10**9, 0), _MOST_OCTAL11),
        b"        ",
        typeflag,
        link[:100],
        b"ustar",
        b"00",
        b"",
        b"",
        b"%07o" % entry.device[0],
        b"%07o" % entry.device[1],
        b"",
    )
    block = bytearray(_HEADER.pack(*fields))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
