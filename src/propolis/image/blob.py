"""A layer's blob on its way into the pipeline: counted, hashed, reported, never read much beyond its declared size.

Knows a layer's descriptor; nothing of tar or of what is in the blob.
"""

from collections.abc import Iterator
from itertools import cycle
from typing import BinaryIO

from propolis.errors import DigestMismatch, ImageError, ImageInvalid
from propolis.image import digest as digests
from propolis.image.compression import MAGIC_LENGTH, sniff
from propolis.image.decompression import CHUNK
from propolis.image.digest import Hash
from propolis.image.manifest import Layer
from propolis.progress import UNPACK_LAYER, Reporter

RING = 20
"""Buffers: more than can be on their way through the stages that the pieces pass uncopied."""


def digested(views: Iterator[memoryview], digest: Hash) -> Iterator[memoryview]:
    """The same views, each taken into `digest` on its way."""
    for view in views:
        digest.update(view)
        yield view


def drained(pieces: Iterator[memoryview]) -> bool:
    """Take all that is left of a blob; whether it was not larger than it may be."""
    try:
        for _ in pieces:
            pass
    except ValueError:
        return False
    return True


class MeteredBlob:
    """Reads a blob: counts, hashes, reports, and never reads further than one byte beyond the declared size."""

    def __init__(self, blob: BinaryIO, layer: Layer, reporter: Reporter) -> None:
        self._blob = blob
        self._layer = layer
        self._reporter = reporter
        self._count = 0
        self._hash = digests.hasher(layer.digest) if layer.digest else None

    def hashed(self, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
        """The same pieces, their digest taken."""
        return pieces if self._hash is None else digested(pieces, self._hash)

    def pieces(self) -> Iterator[memoryview]:
        """The bytes in pieces of a chunk's length; each holds until `RING` more have been taken."""
        ring = [memoryview(bytearray(CHUNK)) for _ in range(min(RING, self._layer.size // CHUNK + 1))]
        for buffer in cycle(ring):
            filled = self._fill(buffer)
            self._reporter.advance(UNPACK_LAYER, self._layer.diff_id, filled)
            if filled:
                yield buffer[:filled]
            if filled < CHUNK:
                return

    def _fill(self, buffer: memoryview) -> int:
        filled = 0
        while filled < CHUNK:
            try:
                count = self._blob.readinto(buffer[filled:])  # type: ignore[attr-defined]
            except OSError as error:
                raise ImageError(f"cannot read {self._layer}: {error.strerror}") from error
            if not count:
                break
            filled += count
            self._count += count
            if self._count > self._layer.size:
                raise ValueError(f"the blob is larger than the {self._layer.size} bytes that its descriptor declares")
        return filled

    def check_magic(self, head: memoryview) -> None:
        """See that the blob is compressed as its media type says."""
        found, declared = sniff(bytes(head[:MAGIC_LENGTH])), self._layer.compression
        if found is not declared and head:
            raise ImageInvalid(
                f"{self._layer} is declared as {self._layer.media_type}, but its compression is {found}",
                hint="the image is damaged or was made by a broken tool; copy it with skopeo",
            )

    @property
    def is_known(self) -> bool:
        """Whether a digest names the blob."""
        return self._hash is not None

    @property
    def is_complete(self) -> bool:
        """Whether as much was read as the descriptor declares."""
        return self._count == self._layer.size

    def matches(self) -> bool:
        """Whether what was read is what the digest names."""
        return self._hash is None or self._hash.hexdigest() == self._layer.digest.partition(":")[2]

    def check(self, drained: bool) -> None:
        """See that size and digest of the whole are right."""
        if not drained or not self.is_complete:
            raise ImageInvalid(
                f"{self._layer} is not {self._layer.size} bytes long, as its descriptor says",
                hint="get another copy of the image",
            )
        if not self.matches():
            raise self.mismatch()

    def mismatch(self) -> DigestMismatch:
        """The error for a blob that is another one."""
        return DigestMismatch(
            f"the bytes of {self._layer} are not what its digest names", hint="get another copy of the image"
        )
