"""A root file system without an image around it, as one: a directory or a tar, and a configuration that says little.

A tar is one layer, whose diff_id is found by reading it once; that is remembered by what the host tells of the file, so
that a tar whose disk is cached is not read again. A directory has no layers: it may change at any time, so its disk is
made for each machine.
"""

import hashlib
import json
import stat
import time
from pathlib import Path
from typing import Any, BinaryIO

from propolis.errors import ImageInvalid, ImageNotFound
from propolis.host.files import write_atomically
from propolis.image import digest as digests
from propolis.image.compression import MAGIC_LENGTH, Compression, sniff
from propolis.image.file_state import FileState, is_settled, record_name, state_of
from propolis.image.files import has_file, mode_of, open_regular
from propolis.image.manifest import Config, Layer, Platform, layer_type
from propolis.image.source import Image
from propolis.image.spool import STANDARD_INPUT, Spooled, pieces_of, shown, spooled, uncompressed
from propolis.image.store import BlobStore
from propolis.progress import Reporter, Silent

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HINT = "--rootfs takes a directory or a tar with a root file system"
_STEP = "read archive"
_MAX_RECORD = 16 << 10


def open_bare(path: Path, wanted: Platform, store: BlobStore, reporter: Reporter | None = None) -> Image:
    """The root file system at `path` (`-`: a tar from standard input), taken to be for `wanted`. To be closed.

    Raises:
        ImageNotFound: there is nothing at `path`.
        ImageInvalid: it is an image, or cannot be uncompressed.
        ImageError: it cannot be read.
        InvalidArgument: standard input is a terminal.
        StorageFull, DiskError: the store cannot be written to.
    """
    if path == STANDARD_INPUT:
        copy = spooled(path, store.spool, reporter)
        layer = Layer(digest=copy.digest, size=copy.size, media_type=layer_type(Compression.NONE), diff_id=copy.digest)
        return _image(path, wanted, layer, _Source(copy.path, copy))
    if stat.S_ISDIR(mode_of(path)):
        if has_file(path, "oci-layout"):
            raise ImageInvalid(f"{path} is an OCI image layout", hint="leave out --rootfs")
        return _image(path, wanted, None, _Source(path))
    return _image(path, wanted, _layer(path, store.tarballs, reporter or Silent()), _Source(path))


class _Source:
    """See `ImageSource`; for one layer at most."""

    def __init__(self, path: Path, copy: Spooled | None = None) -> None:
        self._path, self._copy = path, copy

    def find(self, name: str, digest: str, wanted: Platform) -> Any:
        """Nothing here has a name."""
        raise ImageNotFound(f"{self._path} is no place for images")

    def open_layer(self, layer: Layer) -> BinaryIO:
        """See `ImageSource.open_layer`."""
        return open_regular(self._path, str(self._path))[0]

    def close(self) -> None:
        """See `ImageSource.close`."""
        if self._copy:
            self._copy.close()


def _image(path: Path, wanted: Platform, layer: Layer | None, source: _Source) -> Image:
    layers = (layer,) if layer else ()
    config = Config(platform=wanted, env=(_PATH,), diff_ids=tuple(layer.diff_id for layer in layers))
    return Image(
        reference=shown(path), digest=layer.diff_id if layer else "", config=config, layers=layers, source=source
    )


def _layer(path: Path, records: Path, reporter: Reporter) -> Layer:
    try:
        file, size = open_regular(path, str(path))
    except ImageNotFound as error:
        error.hint = _HINT
        raise
    with file:
        compression = sniff(file.read(MAGIC_LENGTH))
    if not size:
        raise ImageInvalid(f"{path} is empty", hint=_HINT)
    diff_id = _diff_id(path, records, reporter)
    digest = diff_id if compression is Compression.NONE else ""
    return Layer(digest=digest, size=size, media_type=layer_type(compression), diff_id=diff_id)


def _diff_id(path: Path, records: Path, reporter: Reporter) -> str:
    """The digest of what is in the file, remembered or found by reading all of it."""
    record = records / record_name(path)
    before = state_of(path)
    known = _recorded(record, before)
    if known is not None:
        return known
    began = time.time_ns()
    reporter.begin(_STEP, str(path), before["size"])
    hashed = hashlib.sha256()

    def told() -> Any:
        for piece in pieces_of(path):
            reporter.advance(_STEP, str(path), len(piece))
            yield piece

    for piece in uncompressed(told(), str(path)):
        hashed.update(piece)
    diff_id = f"sha256:{hashed.hexdigest()}"
    if state_of(path) != before:
        raise ImageInvalid(f"{path} changed while it was read", hint="try again when it is complete")
    if is_settled(before, began):
        write_atomically(record, json.dumps(before | {"digest": diff_id}).encode())
    reporter.end(_STEP, str(path))
    return diff_id


def _recorded(record: Path, seen: FileState) -> str | None:
    """What was found when the file was as it is now; a record that cannot be read counts as absent."""
    try:
        with record.open("rb") as file:
            document = json.loads(file.read(_MAX_RECORD))
        digest = document.pop("digest")
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    return digest if document == seen and isinstance(digest, str) and digests.is_digest(digest) else None
