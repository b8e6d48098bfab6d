"""How a blob is compressed, told by its first bytes. `decompression` decodes it, which most starts do not need."""

from enum import StrEnum


class Compression(StrEnum):
    """How a layer's blob is compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


_MAGIC = {b"\x1f\x8b": Compression.GZIP, b"\x28\xb5\x2f\xfd": Compression.ZSTD}
MAGIC_LENGTH = 4


def sniff(head: bytes) -> Compression:
    """Tell from a blob's first `MAGIC_LENGTH` bytes how it is compressed; NONE for whatever has no known magic."""
    for magic, compression in _MAGIC.items():
        if head.startswith(magic):
            return compression
    if len(head) == MAGIC_LENGTH and head[1:] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F:
        return Compression.ZSTD  # a skippable frame comes first, as in zstd:chunked and pzstd
    return Compression.NONE
