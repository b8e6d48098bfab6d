"""What an image is to the rest of the program, and what a place that holds images must offer.

Vocabulary of this room: no I/O. Implementations are `layout`, `docker_archive`, `directory`,
`registry.source` and `daemon.source`; `opening` picks one. `tarball` is for what comes without an image around it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol, Self

from propolis.image.manifest import Config, Layer, Platform
from propolis.image.registry.name import ImageName


class ImageSource(Protocol):
    """A place that holds images."""

    def find(self, name: str, digest: str, wanted: Platform) -> "Found":
        """The image of that name or digest (both may be empty: the only one) for the platform `wanted`.

        Every document is verified against its digest. No layer is read.

        Raises:
            ImageNotFound: none of that name, or a blob is missing; the hint lists what is there.
            InvalidArgument: the reference fits several images.
            PlatformMismatch: not for this platform.
            ImageInvalid: a document breaks the specification or its digest.
        """

    def open_layer(self, layer: Layer) -> BinaryIO:
        """The layer's blob, from its start, not yet verified: `layers.unpack` does that.

        The caller uses it as a context manager, so that the source gets to know what was found: left without an
        exception it is verified, and may be kept; left with DigestMismatch it is not what it should be. Where that is
        the fault of what was kept on this host, it raises BlobDamaged instead, and may be opened once more.

        Raises:
            ImageNotFound: the blob is missing.
            ImageError: the host does not let it be read.
        """

    def close(self) -> None:
        """Give up what reading layers takes: copies in the cache, connections. Idempotent; no layer opens after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An image in its source."""

    digest: str
    config: Config
    layers: tuple[Layer, ...]
    indexes: tuple[str, ...] = ()
    """Digests of the indexes that led to its manifest."""
    name: ImageName | None = None
    """In full, where it comes from a registry."""
    remember: Callable[[], None] | None = field(default=None, repr=False, compare=False)
    """Keeps what the tag names now; to be called once the image is known to be allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image for one platform, its documents verified, its layers not yet read."""

    reference: str
    """As `reference.parse` takes it."""
    digest: str
    """Of the manifest; of the config where there is no manifest (docker-archive)."""
    config: Config
    layers: tuple[Layer, ...]
    """Lowest first."""
    source: ImageSource = field(repr=False, compare=False)

    def open_layer(self, layer: Layer) -> BinaryIO:
        """The layer's blob; see `ImageSource.open_layer`."""
        return self.source.open_layer(layer)

    def close(self) -> None:
        """No layer is to be read any more; see `ImageSource.close`."""
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
