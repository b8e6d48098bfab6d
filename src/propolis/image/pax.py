"""PAX extended headers and the sparse maps of GNU tar.

Pure: bytes in, values out. Follows POSIX.1-2008 pax ("pax Extended Header") and the GNU tar manual ("Storing Sparse
Files"). A fault is a ValueError; `tar` says where it happened. Not implemented: `hdrcharset`, `delete` patterns, all of
which Go's archive/tar ignores too.
"""

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

MAX_XATTR_NAME = 255
MAX_XATTR_VALUE = 65536
"""Linux's limits (xattr(7)); more cannot be stored."""
_MAX_XATTRS = 1024
_SCHILY = b"SCHILY.xattr."
_LIBARCHIVE = b"LIBARCHIVE.xattr."
_SPARSE_PIECE = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
_NO_NUL = (b"path", b"linkpath", b"GNU.sparse.name")

Extents = list[tuple[int, int]]
"""Offset and length of what is data, in order."""


def records(payload: bytes) -> dict[bytes, bytes]:
    """The records of one extended header; of records with one key the last counts.

    The pieces of a version 0.0 sparse map, which repeat their keys, come back joined as `GNU.sparse.map`.
    """
    found: dict[bytes, bytes] = {}
    pieces: list[bytes] = []
    position = 0
    while position < len(payload):
        space = payload.find(b" ", position, position + 10)
        digits = payload[position:space] if space > 0 else b""
        if not digits.isdigit():
            raise ValueError("an extended header has a record without a length")
        end = position + int(digits)
        if end > len(payload) or end <= space + 1 or payload[end - 1] != 0x0A:
            raise ValueError("an extended header has a record of a wrong length")
        key, equals, value = payload[space + 1 : end - 1].partition(b"=")
        if not equals or not key or b"\0" in key or (key in _NO_NUL and b"\0" in value):
            raise ValueError("an extended header has a malformed record")
        if key in _SPARSE_PIECE:
            if key != _SPARSE_PIECE[len(pieces) % 2]:
                raise ValueError("an extended header has a disordered sparse map")
            pieces.append(value)
        else:
            found[key] = value
        position = end
    if pieces:
        found[b"GNU.sparse.map"] = b",".join(pieces)
    return found


def whole(text: bytes) -> int:
    """A decimal number without a sign."""
    if not text.isdigit() or len(text) > 19:
        raise ValueError(f"{text[:32]!r} is not a decimal number")
    return int(text)


def nanoseconds(text: bytes) -> int:
    """Seconds with an optional sign and fraction; digits beyond nanoseconds are cut off."""
    negative = text.startswith(b"-")
    seconds, _, fraction = text.removeprefix(b"-").partition(b".")
    if fraction and not fraction.isdigit():
        raise ValueError(f"{text[:32]!r} is not a time")
    total = whole(seconds) * 10**9 + int(fraction[:9].ljust(9, b"0"))
    return -total if negative else total


def xattrs(found: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Extended attributes: as star and GNU tar write them, and as libarchive does where only that is there."""
    attributes: dict[bytes, bytes] = {}
    for key, value in found.items():
        if key.startswith(_SCHILY):
            attributes[key[len(_SCHILY) :]] = value
        elif key.startswith(_LIBARCHIVE):
            try:
                decoded = base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
            except binascii.Error:
                raise ValueError("an extended attribute is not base64") from None
            attributes.setdefault(unquote_to_bytes(key[len(_LIBARCHIVE) :]), decoded)
    if len(attributes) > _MAX_XATTRS:
        raise ValueError(f"more than {_MAX_XATTRS} extended attributes")
    for name, value in attributes.items():
        if not name or len(name) > MAX_XATTR_NAME or b"\0" in name or len(value) > MAX_XATTR_VALUE:
            raise ValueError(f"the extended attribute {name[:64]!r} is larger than Linux can store")
    return attributes


def listed_extents(text: bytes) -> Extents:
    """A sparse map of version 0.0 or 0.1: `offset,length,offset,length`."""
    numbers = [whole(part) for part in text.split(b",")] if text else []
    if len(numbers) % 2:
        raise ValueError("a sparse map has an odd number of fields")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def checked_extents(extents: Extents, size: int, stored: int) -> Extents:
    """The same extents without empty ones, known to be in order, inside `size` bytes, and `stored` bytes in all."""
    kept: Extents = []
    end = total = 0
    for offset, length in extents:
        if offset < end or length < 0 or offset + length > size:
            raise ValueError("a sparse map has overlapping extents or leaves the file")
        end = offset + length
        total += length
        if length:
            kept.append((offset, length))
    if total != stored:
        raise ValueError(f"a sparse map is for {total} bytes of data, but {stored} are there")
    return kept
