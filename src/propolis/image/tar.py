"""Reads a tar archive: header after header, each with its content, from chunks that never split a block.

Format only; what names and types mean for an image is the business of `layers`. Follows POSIX.1-2008 (ustar, pax), the
GNU tar manual (long names, base-256 numbers, sparse files) and, where these leave room, Go's archive/tar, because that
is what the other container tools read with. Not implemented: multi-volume archives, and header types nobody writes.
"""

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple
from zlib import adler32

from propolis.errors import ImageInvalid
from propolis.image import pax

BLOCK = 512
MAX_HEADERS = 20_000_000
MAX_EXTENDED = 1 << 20
"""Bytes of one extended header, long name or sparse map."""
MAX_SIZE = 1 << 42
"""Bytes that one member may claim to have."""

REGULAR = (b"0", b"\0", b"7", b"S")
HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = (b"1", b"2", b"3", b"4", b"5", b"6")
_BODILESS = frozenset((HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO))
_DEVICES = frozenset((CHARACTER, BLOCK_DEVICE))
_META = frozenset(b"xgLK"[i : i + 1] for i in range(4))

_HEADER = struct.Struct("100s24s12s12s8sc100s6s66x16s155s12s")
"""Name; mode, uid and gid; size; mtime; checksum; type; link; magic; major and minor; prefix; the rest."""
_SIZE, _CHECKSUM, _TYPE = 2, 4, 5
_POSIX = b"ustar\x00"
_ZEROS = bytes(BLOCK)
_STAR_TRAILER = b"tar\0"
_STAR_PREFIX = 131
_NO_XATTRS: Mapping[bytes, bytes] = {}
NO_DEVICE = (0, 0)
_MAX_TIME = (1 << 63) - 1
_EMPTY = memoryview(b"")
_new = tuple.__new__
"""Makes a named tuple in half the time of its own constructor."""

_OLD_SPARSE = struct.Struct("12s12s")
_OLD_SPARSE_START, _OLD_SPARSE_COUNT, _OLD_EXTENDED, _OLD_REAL_SIZE = 386, 4, 482, 483
_MORE_SPARSE_COUNT, _MORE_EXTENDED = 21, 504


class Member(NamedTuple):
    """One member as its headers describe it; nothing is normalised."""

    name: bytes
    typeflag: bytes
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    """Bytes of the file, holes included; 0 for whatever has no content."""
    link: bytes
    device: tuple[int, int]
    xattrs: Mapping[bytes, bytes]
    extents: pax.Extents | None
    """Where the stored bytes belong in a sparse file; None for an ordinary one."""


class TarReader:
    """Walks through an archive: `next`, then `piece` until the content is taken; `next` skips what is left of it.

    `read` returns the next chunk, empty at the end; a chunk's length is a multiple of 512 unless it is the last. It may
    raise EOFError (the data ends too early) and ValueError (the data is broken). `release` is called before each
    `read`: no view given out by `piece` may be used after it. `seek`, where given, makes `read` skip so many bytes.
    """

    def __init__(
        self,
        read: Callable[[], memoryview],
        what: str,
        *,
        release: Callable[[], None] | None = None,
        seek: Callable[[int], None] | None = None,
    ) -> None:
        self.left = 0
        """Bytes of the current member's content that are stored in the archive and not yet taken."""
        self._read = read
        self._release = release
        self._seek = seek
        self._what = what
        self._view = self._block = _EMPTY
        self._position = self._end = self._base = 0
        self._padding = 0
        self._last = b""
        self._headers = 0

    @property
    def offset(self) -> int:
        """Where the next byte stands, counted from the archive's start."""
        return self._base + self._position

    def next(self) -> Member | None:
        """The next member, None at the end of the archive.

        Raises:
            ImageInvalid: the archive is truncated or broken; the message names the last member.
        """
        try:
            if self.left:
                self._skip()
            header = self._header()
            if header is not None and header[_TYPE] not in _META:
                return self._member(header, {}, b"", b"")
            return None if header is None else self._extended(header)
        except EOFError as error:
            raise self._truncated(error) from None
        except ValueError as error:
            raise self.fault(str(error)) from None

    def piece(self, most: int = MAX_SIZE) -> memoryview:
        """Some bytes of content, at least one, at most `most` and `left`, which must not be 0; errors as `next`."""
        position = self._position
        if position == self._end:
            if not self._refill():
                raise self._truncated(None)
            position = 0
        end = position + self.left
        if end > self._end or most < self.left:
            end = min(self._end, position + most)
            self._position = end
            self.left -= end - position
            return self._view[position:end]
        view = self._view[position:end]
        self._position = end + self._padding
        if self._position > self._end:
            raise self._truncated(None)
        self.left = 0
        return view

    def drain(self) -> None:
        """Read to the end of the data, whatever follows the archive's end; errors as `next`."""
        while self._refill():
            pass

    def fault(self, text: str) -> ImageInvalid:
        """The error for a fault at the current member."""
        place = f" at entry {shown(self._last)}" if self._last else ""
        return ImageInvalid(
            f"{self._what}{place}: {text}", hint="the archive is damaged; get another copy of the image"
        )

    def _truncated(self, error: EOFError | None) -> ImageInvalid:
        place = f"in or after entry {shown(self._last)}" if self._last else "before its first entry"
        cause = f" ({error})" if error and error.args else ""
        return ImageInvalid(f"{self._what} is truncated: it ends {place}{cause}", hint="get another copy of the image")

    def _refill(self) -> bool:
        self._base += self._end
        self._position = self._end = 0
        self._view = _EMPTY  # an exception must leave no view of a chunk that is gone
        if self._release is not None:
            self._release()
        try:
            self._view = self._read()
        except EOFError as error:
            raise self._truncated(error) from None
        except ValueError as error:
            raise self.fault(str(error)) from None
        self._end = len(self._view)
        return self._end > 0

    def _extended(self, header: tuple[bytes, ...] | None) -> Member | None:
        """The member that `header` and those that follow it are about."""
        long_name = long_link = b""
        extended: dict[bytes, bytes] = {}
        while header is not None:
            typeflag = header[_TYPE]
            if typeflag not in _META:
                return self._member(header, extended, long_name, long_link)
            payload = self._payload(number(header[_SIZE]))
            if typeflag == b"x":
                extended = pax.records(payload)
            elif typeflag == b"L":
                long_name = _cut(payload)
            elif typeflag == b"K":
                long_link = _cut(payload)
            header = self._header()
        if extended or long_name or long_link:
            raise EOFError
        return None

    def _header(self) -> tuple[bytes, ...] | None:
        """The fields of the next header block, which stays in `_block`; None at the end of the archive."""
        position = self._position
        if position == self._end:
            if not self._refill():
                return None
            position = 0
        if self._end - position < BLOCK:
            raise EOFError
        fields = _HEADER.unpack_from(self._view, position)
        block = self._block = self._view[position : position + BLOCK]
        self._position = position + BLOCK
        if not _checksum_fits(block, fields[_CHECKSUM]):
            if block != _ZEROS:
                raise ValueError("the next header has a wrong checksum" if self._last else "this is not a tar archive")
            self._check_end()
            return None
        self._headers += 1
        if self._headers > MAX_HEADERS:
            raise ValueError(f"more than {MAX_HEADERS} entries")
        return fields

    def _check_end(self) -> None:
        """One block of zeros was read; a second one, or the end of the data, must follow."""
        if self._position == self._end and not self._refill():
            return
        block = self._view[self._position : self._position + BLOCK]
        if block != _ZEROS[: len(block)]:
            raise ValueError("a single block of zeros is followed by more entries")

    def _member(self, header: tuple[bytes, ...], extended: dict[bytes, bytes], name: bytes, link: bytes) -> Member:
        raw, owner, size, mtime, _, typeflag, linkname, magic, device, prefix, tail = header
        if not name:
            name = _cut(raw)
            if prefix[0] and magic == _POSIX:
                name = _cut(prefix[:_STAR_PREFIX] if tail.endswith(_STAR_TRAILER) else prefix) + b"/" + name
            if extended:
                name = extended.get(b"GNU.sparse.name") or extended.get(b"path") or name
        self._last = name
        mode, uid, gid = _owner(owner)
        if typeflag in _BODILESS:
            stored = 0
        else:
            digits = size.rstrip(b"\0 ")  # sizes repeat too little for `number` to remember them
            stored = int(digits, 8) if digits.isdigit() else number(size)
        target = link or (_cut(linkname) if linkname[0] else b"")
        numbers = (number(device[:8]), number(device[8:])) if typeflag in _DEVICES else NO_DEVICE
        member = _new(
            Member, (name, typeflag, mode, uid, gid, _nanoseconds(mtime), stored, target, numbers, _NO_XATTRS, None)
        )
        if extended or typeflag == b"S":
            member, stored = self._amended(member, stored, extended, link)
        if not 0 <= stored <= MAX_SIZE:
            raise ValueError(f"its size of {stored} bytes is not possible")
        if member.extents is None:
            self.left = stored
            self._padding = -stored % BLOCK
        return member

    def _amended(
        self, member: Member, stored: int, extended: dict[bytes, bytes], long_link: bytes
    ) -> tuple[Member, int]:
        """The member with what its extended headers say, and the bytes that are stored for it."""
        changes: dict[str, object] = {}
        if (text := extended.get(b"size")) and member.typeflag not in _BODILESS:
            stored = changes["size"] = pax.whole(text)
        if text := extended.get(b"mtime"):
            changes["mtime_ns"] = min(pax.nanoseconds(text), _MAX_TIME)
        if text := extended.get(b"uid"):
            changes["uid"] = pax.whole(text)
        if text := extended.get(b"gid"):
            changes["gid"] = pax.whole(text)
        if (text := extended.get(b"linkpath")) and not long_link:
            changes["link"] = text
        if attributes := pax.xattrs(extended):
            changes["xattrs"] = attributes
        sparse = self._sparse(member.typeflag, stored, extended)
        if sparse is not None:
            changes["size"], changes["extents"] = sparse
        return member._replace(**changes), stored  # type: ignore[arg-type]

    def _sparse(self, typeflag: bytes, stored: int, extended: dict[bytes, bytes]) -> tuple[int, pax.Extents] | None:
        """Real size and map of a sparse file of any of the four kinds; None for another member."""
        if not 0 <= stored <= MAX_SIZE:
            return None
        if typeflag == b"S":
            block = bytes(self._block)
            size = number(block[_OLD_REAL_SIZE : _OLD_REAL_SIZE + 12])
            extents = self._old_extents(block)
            self._content(stored)
        elif extended.get(b"GNU.sparse.major") == b"1":
            size = pax.whole(extended.get(b"GNU.sparse.realsize", b""))
            self._content(stored)
            extents = self._leading_extents()
        elif b"GNU.sparse.map" in extended:
            size = pax.whole(extended.get(b"GNU.sparse.size") or extended.get(b"GNU.sparse.realsize", b""))
            extents = pax.listed_extents(extended[b"GNU.sparse.map"])
            self._content(stored)
        else:
            return None
        if not 0 <= size <= MAX_SIZE:
            raise ValueError(f"its size of {size} bytes is not possible")
        return size, pax.checked_extents(extents, size, self.left)

    def _old_extents(self, block: bytes) -> pax.Extents:
        """The map of old GNU sparse files, which goes on in blocks between header and content."""
        extents: pax.Extents = []
        start, count, more = _OLD_SPARSE_START, _OLD_SPARSE_COUNT, block[_OLD_EXTENDED]
        while True:
            for offset, length in _OLD_SPARSE.iter_unpack(block[start : start + count * _OLD_SPARSE.size]):
                if not offset[0]:
                    break
                extents.append((number(offset), number(length)))
            if not more:
                return extents
            if len(extents) > MAX_EXTENDED // _OLD_SPARSE.size:
                raise ValueError("its sparse map is too large")
            block = self._next_block()
            start, count, more = 0, _MORE_SPARSE_COUNT, block[_MORE_EXTENDED]

    def _leading_extents(self) -> pax.Extents:
        """The map of version 1.0: decimal lines at the start of the content, padded to a block."""
        numbers: list[int] = []
        text = b""
        wanted = 1
        taken = 0
        while len(numbers) < wanted:
            line, newline, rest = text.partition(b"\n")
            if newline:
                text = rest
                numbers.append(pax.whole(line))
                wanted = 1 + 2 * numbers[0]
            else:
                taken += BLOCK
                if self.left < BLOCK or taken > MAX_EXTENDED:
                    raise ValueError("its sparse map is too large")
                text += self._next_block()
                self.left -= BLOCK
        return list(zip(numbers[1::2], numbers[2::2], strict=True))

    def _next_block(self) -> bytes:
        if self._position == self._end and not self._refill():
            raise EOFError
        block = bytes(self._view[self._position : self._position + BLOCK])
        if len(block) < BLOCK:
            raise EOFError
        self._position += BLOCK
        return block

    def _content(self, length: int) -> None:
        self.left = length
        self._padding = -length % BLOCK

    def _payload(self, length: int) -> bytes:
        if not 0 <= length <= MAX_EXTENDED:
            raise ValueError(f"an extended header claims {length} bytes; at most {MAX_EXTENDED} are accepted")
        self._content(length)
        parts: list[bytes] = []
        while self.left:
            parts.append(bytes(self.piece()))
        return b"".join(parts)

    def _skip(self) -> None:
        while self.left:
            beyond = self._position + self.left + self._padding - self._end
            if self._seek is not None and beyond > 0:
                self._seek(beyond)
                self._base += self._end + beyond
                self._view = _EMPTY
                self._position = self._end = self.left = 0
            else:
                self.piece()


def shown(name: bytes) -> str:
    """A member's name for messages: printable, quoted, not too long."""
    return ascii(name[:200].decode("utf-8", "backslashreplace"))


@lru_cache(maxsize=8192)
def number(field: bytes) -> int:
    """A header's number: octal digits between blanks and NULs, or base-256 when the top bit is set.

    Raises:
        ValueError: it is neither.
    """
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        return value - (1 << bits) if field[0] & 0x40 else value
    digits = field.strip(b" \0")
    if not digits.isdigit():
        digits = digits.partition(b"\0")[0].rstrip(b" ")
        if not digits:
            return 0
        if not digits.isdigit():
            raise ValueError(f"{field!r} is not a number")
    return int(digits, 8)


@lru_cache(maxsize=1024)
def _owner(field: bytes) -> tuple[int, int, int]:
    """Permission bits, uid and gid; few archives have more than a handful of combinations."""
    mode, uid, gid = number(field[:8]), number(field[8:16]), number(field[16:])
    if uid < 0 or gid < 0:
        raise ValueError("its owner is negative")
    return mode & 0o7777, uid, gid


@lru_cache(maxsize=1024)
def _nanoseconds(field: bytes) -> int:
    return max(-_MAX_TIME, min(number(field) * 10**9, _MAX_TIME))


def _checksum_fits(block: memoryview, stored: bytes) -> bool:
    """Compare the sum of the header's bytes, its own field counted as blanks, with `stored`.

    The low half of Adler-32 is 1 + the sum modulo 65521, twenty times faster than summing in Python.
    """
    try:
        wanted = int(stored[:6], 8)
    except ValueError:
        try:
            wanted = number(stored)
        except ValueError:
            return False
    if ((adler32(block) & 0xFFFF) - (adler32(stored) & 0xFFFF) + 8 * 0x20 - wanted) % 65521 == 0:
        return wanted > 0
    signed = sum(block.cast("b")) - sum(memoryview(stored).cast("b")) + 8 * 0x20  # some old writers took char as signed
    return signed == wanted


def _cut(field: bytes) -> bytes:
    return field.partition(b"\0")[0]
