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


def _gunzip(pieces: Iterator[memoryview]) -> Callable[[int], bytes | None]:
    decoder: Any = _decompressobj(_GZIP_WBITS)
    pending: bytes | memoryview = b""
    members = 0

    def decode(room: int) -> bytes | None:
        nonlocal decoder, pending, members
        if not pending:
            pending = next(pieces, b"")
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
            pending = decoder.unused_data
            decoder = None
            members += 1
        elif ended and not part:
            raise EOFError("the gzip data ends too early")
        return part

    return decode


def _unzstd(pieces: Iterator[memoryview]) -> Callable[[int], bytes | None]:
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
    decoder = zstd.ZstdDecompressor(options=options)
    pending: bytes | memoryview = b""
    between = False

    def decode(room: int) -> bytes | None:
        nonlocal decoder, pending, between
        if not pending and decoder.needs_input:
            pending = next(pieces, b"")
            if not pending:
                if between:
                    return None
                raise EOFError("the zstd data ends too early")
        try:
            part = decoder.decompress(pending, room)
        except zstd.ZstdError as error:
            raise ValueError(f"broken zstd data: {error}") from None
        pending = b""
        between = decoder.eof
        if decoder.eof:
            pending = decoder.unused_data
            decoder = zstd.ZstdDecompressor(options=options)
        return part

    return decode
