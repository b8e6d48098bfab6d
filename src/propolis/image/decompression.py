"""From a blob's compressed bytes to chunks of its tar.

Knows nothing of images or tar, save that tar counts in blocks of 512: every chunk but the last is `CHUNK` bytes, and a
view holds at least until the next one is taken. Follows RFC 1952 (several members, zero padding after the last) and RFC
8878 (several frames). Faults of the data: EOFError when it ends too early, ValueError when it is broken.
"""

import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any

try:
    from isal import isal_zlib

    _decompressobj: Callable[[int], Any] = isal_zlib.decompressobj
    _ZLIB_ERRORS: Any = (isal_zlib.error, zlib.error)
except ImportError:  # no build of isal for Windows on arm64
    _decompressobj = zlib.decompressobj
    _ZLIB_ERRORS = (zlib.error,)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from propolis.image.compression import Compression

CHUNK = 512 << 10
"""Bytes; fits the second-level cache."""
_SHORT = 1024
"""Bytes that a decoder is given first after one has ended."""
_GZIP_WBITS = 31
_MAX_WINDOW_LOG = 27
"""128 MiB of decoder memory, the most that zstd itself grants unasked."""


def chunks(pieces: Iterator[memoryview], compression: Compression) -> Iterator[memoryview]:
    """The uncompressed content of a blob that comes in `pieces`, each of which is done with when the next is taken.

    Pieces of an uncompressed blob are its chunks already, if they have a chunk's length.

    Raises:
        EOFError: the compressed data ends too early.
        ValueError: the compressed data is broken.
    """
    if compression is Compression.GZIP:
        return _full(_gunzip(pieces))
    if compression is Compression.ZSTD:
        return _full(_unzstd(pieces))
    return pieces


def _full(decode: Callable[[int], bytes | None]) -> Iterator[memoryview]:
    """Call `decode` with the room left until a chunk is full; None ends the stream, b"" asks for another call."""
    parts: list[bytes] = []
    room = CHUNK
    while True:
        try:
            part = decode(room)
        except (EOFError, ValueError):
            if parts:
                yield memoryview(b"".join(parts))  # so that the message can name the entry at which it happened
            raise
        if part is None:
            break
        if part:
            parts.append(part)
            room -= len(part)
        if room == 0:
            yield memoryview(parts[0] if len(parts) == 1 else b"".join(parts))
            parts = []
            room = CHUNK
    if parts:
        yield memoryview(b"".join(parts))


class _Feed:
    """What a decoder is given next of `pieces`: all of one, but little where members or frames have begun to end.

    A decoder copies what it leaves, so that thousands of empty ones in one piece would copy that thousands of times.
    """

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")
        self._position = 0
        self._is_short = False

    def take(self) -> memoryview:
        """Some bytes, none at the end."""
        if self._position == len(self._piece):
            self._piece, self._position = memoryview(next(self._pieces, b"")), 0
        start, whole = self._position, len(self._piece)
        self._position = min(whole, start + _SHORT) if self._is_short else whole
        self._is_short = False
        return self._piece[start : self._position]

    def give_back(self, count: int) -> None:
        """A member or a frame has ended before the last `count` bytes of what was taken last."""
        self._position -= count
        self._is_short = True


def _gunzip(pieces: Iterator[memoryview]) -> Callable[[int], bytes | None]:
    feed = _Feed(pieces)
    decoder: Any = _decompressobj(_GZIP_WBITS)
    pending: bytes | memoryview = b""
    members = 0

    def decode(room: int) -> bytes | None:
        nonlocal decoder, pending, members
        if not pending:
            pending = feed.take()
            if not pending and decoder is None:
                return None
        if decoder is None:
            pending = bytes(pending).lstrip(b"\0")
            if not pending:
                return b""
            decoder = _decompressobj(_GZIP_WBITS)
        ended = not pending
        try:
            part: bytes = decoder.decompress(pending, room)
        except _ZLIB_ERRORS as error:
            raise ValueError(f"broken gzip data in member {members + 1}: {error}") from None
        pending = decoder.unconsumed_tail
        if decoder.eof:
            feed.give_back(len(decoder.unused_data))
            pending, decoder = b"", None
            members += 1
        elif ended and not part:
            raise EOFError("the gzip data ends too early")
        return part

    return decode


def _unzstd(pieces: Iterator[memoryview]) -> Callable[[int], bytes | None]:
    feed = _Feed(pieces)
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
    decoder = zstd.ZstdDecompressor(options=options)
    between = False

    def decode(room: int) -> bytes | None:
        nonlocal decoder, between
        pending: bytes | memoryview = b""
        if decoder.needs_input:
            pending = feed.take()
            if not pending:
                if between:
                    return None
                raise EOFError("the zstd data ends too early")
        try:
            part = decoder.decompress(pending, room)
        except zstd.ZstdError as error:
            raise ValueError(f"broken zstd data: {error}") from None
        between = decoder.eof
        if decoder.eof:
            feed.give_back(len(decoder.unused_data))
            decoder = zstd.ZstdDecompressor(options=options)
        return part

    return decode
