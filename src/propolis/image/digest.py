"""Content digests, as the OCI image specification spells them (descriptor.md, "Digests"): `algorithm:hex`.

Pure. Of the registered algorithms sha256 and sha512 are accepted; blake3 is not in the standard library.
"""

import hashlib
import re
from typing import Protocol

from propolis.errors import ImageInvalid

_LENGTHS = {"sha256": 64, "sha512": 128}
ALGORITHMS = tuple(_LENGTHS)
_HEX = re.compile(r"[0-9a-f]+")


class Hash(Protocol):
    """The part of a hashlib object that is used here."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Take more bytes."""

    def hexdigest(self) -> str:
        """The digest of all bytes so far."""


def split(digest: str, what: str) -> tuple[str, str]:
    """Return algorithm and hexadecimal part of `digest`; `what` names its place in messages.

    Raises:
        ImageInvalid: not a digest, or of an algorithm that is not supported.
    """
    algorithm, _, value = digest.partition(":")
    if algorithm not in _LENGTHS:
        raise ImageInvalid(
            f"{what} is {digest[:80]!r}, which is not a sha256 or sha512 digest",
            hint="copy the image with skopeo, which names everything by sha256",
        )
    if len(value) != _LENGTHS[algorithm] or not _HEX.fullmatch(value):
        raise ImageInvalid(f"{what} is {digest[:160]!r}: {algorithm} needs {_LENGTHS[algorithm]} lower-case hex digits")
    return algorithm, value


def is_digest(text: str) -> bool:
    """Whether `text` is a digest of a supported algorithm."""
    algorithm, _, value = text.partition(":")
    return len(value) == _LENGTHS.get(algorithm) and _HEX.fullmatch(value) is not None


def hasher(digest: str) -> Hash:
    """A fresh hash of the algorithm of `digest`, which has been through `split`."""
    return hashlib.new(digest.partition(":")[0])


def of(data: bytes) -> str:
    """The sha256 digest of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def matches(data: bytes, digest: str) -> bool:
    """Whether `data` is what `digest` names."""
    hashed = hasher(digest)
    hashed.update(data)
    return hashed.hexdigest() == digest.partition(":")[2]


def short(digest: str) -> str:
    """How messages show a digest: algorithm and twelve digits."""
    algorithm, _, value = digest.partition(":")
    return f"{algorithm}:{value[:12]}"
