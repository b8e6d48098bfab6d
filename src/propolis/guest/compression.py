"""Undoing what kernels and their modules are compressed with, from memory to memory, with a limit.

Pure. Knows formats by their first bytes. LZ4 and LZO, which a kernel image may have too, are not in Python's library.
"""

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import Protocol

from propolis.errors import KernelUnsuitable

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


_FORMATS: dict[bytes, Callable[[], _Decompressor]] = {
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
    b"\x28\xb5\x2f\xfd": zstd.ZstdDecompressor,
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"\x5d\0\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE),
    b"BZh": bz2.BZ2Decompressor,
}


def is_compressed(data: bytes) -> bool:
    """Whether `data` begins like one of the formats that `decompress` undoes."""
    return _format(data) is not None


def decompress(data: bytes, limit: int, subject: str) -> bytes:
    """Return what `data` was before it was compressed; `data` itself when it is not. Trailing bytes are ignored.

    Raises:
        KernelUnsuitable: the data is damaged or truncated, or would be more than `limit` bytes.
    """
    new = _format(data)
    if new is None:
        return data
    decompressor = new()
    try:
        plain = decompressor.decompress(data, limit + 1)
    except (lzma.LZMAError, zlib.error, zstd.ZstdError, OSError, EOFError) as error:
        raise KernelUnsuitable(f"{subject} is damaged: {error}") from error
    if len(plain) > limit:
        raise KernelUnsuitable(f"{subject} is larger than {limit >> 20} MiB, which no kernel's part is")
    if not decompressor.eof:
        raise KernelUnsuitable(f"{subject} is truncated")
    return plain


def _format(data: bytes) -> Callable[[], _Decompressor] | None:
    return next((new for magic, new in _FORMATS.items() if data.startswith(magic)), None)
