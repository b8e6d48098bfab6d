"""The content store: blobs as files named by their digest, shared by all images and processes.

`<cache>/blobs/<algorithm>/<hex>`, as in an OCI image layout. A blob appears by a rename after its last byte has been
verified, and for documents flushed, so what has the name is whole; several processes may add the same blob at once.
Knows nothing of what the blobs hold.

What goes in: manifests, configs and layers of images that are not to be had on this host otherwise. A layer from a
registry comes as a partial blob, is verified in the pass that makes its disk (`layers.unpack`), and becomes a blob by a
rename. Layers are not flushed, as they are large and can be fetched again; whoever reads one verifies it. Local images
are read in place: a hard link in place of a copy is no way out, because its other name can be written to.
"""

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType

from propolis.errors import BlobDamaged, DigestMismatch, DiskError, ImageInvalid
from propolis.host import system
from propolis.host.files import stage, storage_errors, sweep
from propolis.image import digest as digests
from propolis.image import partial
from propolis.image.document import MAX_DOCUMENT
from propolis.image.manifest import Descriptor, Layer
from propolis.image.partial import PartialBlob
from propolis.image.stored import BlobState, StoredBlob, StoredRecord, stored_blobs, stored_records

_KEPT_DAMAGED = 3


class BlobStore:
    """Blobs below `directory`, which need not exist yet."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        algorithm, value = digests.split(digest, "a blob's name")
        return self._directory / algorithm / value

    def read(self, digest: str, limit: int) -> bytes | None:
        """A blob of at most `limit` bytes, verified again; None when there is none such here.

        One that went bad on the disk is put aside and counts as absent.

        Raises:
            DiskError: the host does not let it be read.
        """
        path = self.path(digest)
        try:
            with os.fdopen(system.open_published(path), "rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DiskError(f"cannot read {path}: {error.strerror}", hint="check its owner and permissions") from error
        if len(data) > limit:
            return None  # a layer
        if digests.matches(data, digest):
            return data
        put_aside(path)
        return None

    def document(self, descriptor: Descriptor, where: str, fetch: Callable[[], bytes]) -> bytes:
        """A manifest, index or config: from here, or else by `fetch` from `where` and then kept; verified either way.

        Raises:
            DigestMismatch, ImageInvalid: it is not what its descriptor says.
            StorageFull, DiskError: as `read` and `add`.
            Whatever `fetch` raises.
        """
        what = f"blob {digests.short(descriptor.digest)} in {where}"
        if descriptor.size > MAX_DOCUMENT:
            raise ImageInvalid(f"{what} is declared with {descriptor.size} bytes; at most {MAX_DOCUMENT} are accepted")
        data = self.read(descriptor.digest, MAX_DOCUMENT)
        if data is None:
            data = fetch()
            if not digests.matches(data, descriptor.digest):
                raise DigestMismatch(f"{what} is not what its digest names", hint="get another copy of the image")
            self.add(descriptor.digest, len(data), (data,))
        if len(data) != descriptor.size:
            raise ImageInvalid(f"{what} has {len(data)} bytes, but its descriptor says {descriptor.size}")
        return data

    def open_layer(self, layer: Layer) -> "KeptLayer | None":
        """A layer's blob that is here, not verified yet; None where it is not.

        Raises:
            ImageInvalid: it is not as large as this image says: that does not make it another's loss.
            DiskError: the host does not let it be read.
        """
        path = self.path(layer.digest)
        try:
            found = KeptLayer(path, layer)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DiskError(f"cannot read {path}: {error.strerror}", hint="check its owner and permissions") from error
        size = os.fstat(found.fileno()).st_size
        if size == layer.size:
            return found
        found.close()
        if self.check(layer.digest):
            raise ImageInvalid(
                f"{layer} has {size} bytes, but its descriptor says {layer.size}", hint="get another copy of the image"
            )
        return None

    def partial(self, digest: str) -> PartialBlob:
        """What there is of a blob that was not fetched whole, to be added to; an empty one while somebody else does.

        Raises:
            StorageFull, DiskError: the directory cannot be written to.
        """
        return PartialBlob.open(self.path(digest))

    @property
    def tags(self) -> Path:
        """Where it is kept what tags name (`tags.TagRecords`)."""
        return self._directory / "tags"

    @property
    def signatures(self) -> Path:
        """Where signatures of images are kept (`trust.records.SignatureRecords`)."""
        return self._directory / "signatures"

    @property
    def daemons(self) -> Path:
        """Where it is kept which manifest belongs to the ID of an image that a container engine has."""
        return self._directory / "daemons"

    @property
    def tarballs(self) -> Path:
        """Where it is kept which diff_ids tars outside of images were found to have."""
        return self._directory / "tarballs"

    @property
    def archives(self) -> Path:
        """Where it is kept what compressed archives were found to hold (`archive_records.ArchiveRecords`)."""
        return self._directory / "archives"

    @property
    def spool(self) -> Path:
        """Where archives are copied to that cannot be read in place, for as long as they are read."""
        return self._directory / "spool"

    def add(self, digest: str, size: int, pieces: Iterable[bytes]) -> Path:
        """Write a blob of exactly `size` bytes, verifying it on the way; an existing one is kept and `pieces` not read.

        Raises:
            DigestMismatch: the bytes are not what `digest` names, or more or fewer than `size`; nothing is kept.
            StorageFull: no room. DiskError: the directory cannot be written to.
        """
        path = self.path(digest)
        if path.exists():
            return path
        sweep(path.parent)
        partial.sweep(path.parent)
        hashed = hashlib.new(path.parent.name)
        left = size
        with stage(path) as staged, open(staged.descriptor, "wb", buffering=0, closefd=False) as file:
            for piece in pieces:
                left -= len(piece)
                if left < 0:
                    break
                hashed.update(piece)
                view = memoryview(piece)
                while view:
                    view = view[file.write(view) :]
            if left or hashed.hexdigest() != path.name:
                raise DigestMismatch(
                    f"the bytes for {digests.short(digest)} are not the {size} that it names",
                    hint="get another copy of the image",
                )
        return path

    def blobs(self) -> Iterator[StoredBlob]:
        """What there is, also damaged and begun ones. Others may be adding to it, or removing, at the same time."""
        return stored_blobs(self._directory)

    def records(self) -> Iterator[StoredRecord]:
        """What is known of signatures, engines' images, tars, archives. Others may add or remove at the same time."""
        return stored_records(self.signatures, self.daemons, self.tarballs, self.archives)

    def has(self, digest: str) -> bool:
        """Whether the blob is here, to be verified by whoever reads it."""
        return self.path(digest).is_file()

    def check(self, digest: str, *, durable: bool = False) -> bool:
        """Whether the blob is here and what its digest names; all of it is read. One that is damaged is put aside.

        With `durable` it will be here after a power cut, too.

        Raises:
            StorageFull, DiskError: the host does not let it be read or flushed.
        """
        path = self.path(digest)
        try:
            with storage_errors(path), _opened(path, durable) as file:
                if hashlib.file_digest(file, path.parent.name).hexdigest() == path.name:
                    if durable:
                        os.fsync(file.fileno())
                        system.sync_directory(path.parent)
                    return True
        except FileNotFoundError:
            return False
        put_aside(path)
        return False

    def sweep(self) -> int:
        """Remove what writers that were killed left behind, and partial blobs that are old; returns how many files."""
        if not self._directory.is_dir():
            return 0
        directories = [directory for directory in self._directory.iterdir() if directory.is_dir()]
        return sum(sweep(directory) + partial.sweep(directory) for directory in directories)


class KeptLayer(io.FileIO):
    """A layer's blob in the store. Left with DigestMismatch it is put aside, and the error says that it was damaged."""

    def __init__(self, path: Path, layer: Layer) -> None:
        super().__init__(path)
        self._path = path
        self._layer = layer

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if isinstance(error, DigestMismatch):
            put_aside(self._path)
            raise BlobDamaged(
                f"what was kept of {self._layer} is damaged, and was put aside", hint="try again, or pull the image"
            ) from error


def _opened(path: Path, writable: bool) -> io.FileIO:
    return io.FileIO(path, "r+" if writable else "r")


def put_aside(path: Path) -> None:
    """Take a blob that is not what its name says out of use; the latest such are kept for whoever wants to know why."""
    with contextlib.suppress(OSError):
        path.replace(path.with_name(f"{BlobState.DAMAGED}{path.name}"))
    found = sorted(path.parent.glob(f"{BlobState.DAMAGED}*"), key=lambda damaged: damaged.stat().st_ctime_ns)
    for old in found[:-_KEPT_DAMAGED]:
        with contextlib.suppress(OSError):
            old.unlink()
