"""Images from an archive or a layout are taken into the store: afterwards they are there without it.

What `docker save`, `podman save`, skopeo, buildx and `propolis save` write. Every blob is verified; names are given
last, so an interrupted load is one that did not happen, and its leftovers are collected.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from propolis.errors import ImageError, ImageNotFound
from propolis.host.directories import cache_directory
from propolis.image.compression import MAGIC_LENGTH, Compression, sniff
from propolis.image.files import DirectoryFiles, Files
from propolis.image.spool import spool
from propolis.image.store import BlobStore
from propolis.image.tags import TagRecords
from propolis.image.tar_files import TarFiles
from propolis.images.archived import Open, archived_images
from propolis.progress import Reporter, Silent
from propolis.state.leases import Lease

_STEP = "load layer"
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """One image that is here now."""

    digest: str
    """Of its manifest or index."""
    names: tuple[str, ...]
    """In full; an image without one can be given a name by its digest, until it is collected."""


def load(source: str | Path | BinaryIO, *, reporter: Reporter | None = None) -> list[Loaded]:
    """Take all images from an archive (also one that is compressed), the directory of a layout, or a stream.

    Raises:
        ImageNotFound: nothing is there, or a part of an image is missing.
        ImageInvalid: it is no image's archive, or broken, or not what its digests say.
        ImageError: it cannot be read.
        StorageFull, DiskError: the cache cannot be written to.
    """
    reporter = reporter or Silent()
    cache = cache_directory()
    store = BlobStore(cache / "blobs")
    with _files(source, store) as files, Lease(cache) as lease:
        images = archived_images(files)
        lease.add(name for image in images for name in image.covered | set(image.blobs))
        for image in images:
            for digest, (size, open_blob) in image.blobs.items():
                _copy(store, digest, size, open_blob, reporter)
        tags = TagRecords(store.tags)
        for image in images:
            for name in image.names:
                tags.keep(name, image.digest)
    return [Loaded(digest=image.digest, names=tuple(image.names)) for image in images]


@contextlib.contextmanager
def _files(source: str | Path | BinaryIO, store: BlobStore) -> Iterator[Files]:
    """The source's files by name. What cannot be read out of order is copied first."""
    what = str(source) if isinstance(source, str | Path) else "the input"
    if not isinstance(source, str | Path):
        copy = spool(_read(source, what), store.spool, what)
    elif (path := Path(source)).is_dir():
        yield DirectoryFiles(path)
        return
    else:
        with _open(path) as file:
            if path.is_file():
                head = file.read(MAGIC_LENGTH)
                file.seek(0)
                if sniff(head) is Compression.NONE:
                    yield TarFiles(path)
                    return
            copy = spool(_read(file, what), store.spool, what)
    with contextlib.closing(copy):
        yield TarFiles(what, copy)


def _read(file: BinaryIO, what: str) -> Iterator[memoryview]:
    try:
        for piece in _pieces(file):
            yield memoryview(piece)
    except OSError as error:
        raise ImageError(f"cannot read {what}: {error.strerror}") from error


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise ImageNotFound(f"there is no {path}", hint="check the path") from None
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}", hint="check its owner and permissions") from error


def _copy(store: BlobStore, digest: str, size: int, open_blob: Open, reporter: Reporter) -> None:
    """Have the blob in the store, whole, verified and flushed."""
    reporter.begin(_STEP, digest, size)
    if not store.check(digest, durable=True):
        with open_blob() as blob:
            store.add(digest, size, _reported(blob, digest, reporter))
    reporter.end(_STEP, digest)


def _reported(blob: BinaryIO, digest: str, reporter: Reporter) -> Iterator[bytes]:
    for piece in _pieces(blob):
        reporter.advance(_STEP, digest, len(piece))
        yield piece


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece
