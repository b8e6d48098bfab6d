"""An image as skopeo's transport `dir:` writes it: one directory, a manifest, and blobs named by their digits.

Follows containers-transports(5) and what skopeo writes: `version`, `manifest.json` (an image or, after copy --all, an
index whose images are `<hex>.manifest.json`), `<hex>` for configs and layers. Nothing there has a name.
"""

from dataclasses import replace
from typing import BinaryIO

from propolis.errors import ImageInvalid, ImageNotFound
from propolis.image import digest as digests
from propolis.image.compression import MAGIC_LENGTH, sniff
from propolis.image.document import MAX_DOCUMENT
from propolis.image.files import DirectoryFiles, read_all
from propolis.image.manifest import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_MANIFEST,
    SCHEMA_1_TYPES,
    Descriptor,
    Layer,
    Platform,
    layer_type,
    media_type_of,
    pair_layers,
)
from propolis.image.selection import select
from propolis.image.source import Found
from propolis.image.store import BlobStore

MANIFEST, VERSION = "manifest.json", "version"
_MARK = "Directory Transport Version: "
_MAJOR = "1."
_LONGEST_VERSION = 4096


class DirectorySource:
    """The image in a directory of skopeo's; documents are kept in `store`."""

    def __init__(self, files: DirectoryFiles, store: BlobStore) -> None:
        self._files = files
        self._store = store

    def find(self, name: str, digest: str, wanted: Platform) -> Found:
        """See `ImageSource.find`; there are no names."""
        where = self._files.where
        self._check_version()
        data = read_all(self._files, MANIFEST, MAX_DOCUMENT)
        top = _descriptor(data, where)
        if digest and not digests.matches(data, digest):
            raise ImageNotFound(
                f"there is no {digests.short(digest)} in {where}", hint=f"its only image is @{top.digest}"
            )

        def read(descriptor: Descriptor) -> bytes:
            if descriptor.digest == top.digest:
                return data
            return self._store.document(descriptor, where, lambda: self._document(descriptor))

        found = select((top,), wanted, read, f"the image in {where}")
        what = f"manifest {digests.short(found.descriptor.digest)}"
        return Found(
            digest=found.descriptor.digest,
            config=found.config,
            layers=tuple(map(self._as_it_is, pair_layers(found.manifest, found.config, what))),
        )

    def open_layer(self, layer: Layer) -> BinaryIO:
        """See `ImageSource.open_layer`."""
        return self._files.open(_blob_name(layer.digest))[0]

    def close(self) -> None:
        """See `ImageSource.close`."""
        self._files.close()

    def _as_it_is(self, layer: Layer) -> Layer:
        """The layer with the compression that it has: of what a daemon gave, skopeo says gzip and writes plain tars."""
        try:
            file, _ = self._files.open(_blob_name(layer.digest))
        except ImageNotFound:
            return layer
        with file:
            compression = sniff(file.read(MAGIC_LENGTH))
        return layer if compression is layer.compression else replace(layer, media_type=layer_type(compression))

    def _check_version(self) -> None:
        where = self._files.where
        try:
            told = read_all(self._files, VERSION, _LONGEST_VERSION).decode("utf-8", "replace").strip()
        except ImageNotFound:
            return  # older ones have none
        if not told.startswith(_MARK + _MAJOR):
            raise ImageInvalid(
                f"{where} is no image of the transport dir: its version is {told[:60]!r}",
                hint="make one with skopeo copy docker://IMAGE dir:DIR",
            )

    def _document(self, descriptor: Descriptor) -> bytes:
        name = _blob_name(descriptor.digest)
        is_manifest = descriptor.media_type in (*INDEX_TYPES, *MANIFEST_TYPES)
        return read_all(self._files, f"{name}.{MANIFEST}" if is_manifest else name, MAX_DOCUMENT)


def _descriptor(data: bytes, where: str) -> Descriptor:
    """What describes the manifest, which nobody else does."""
    told = media_type_of(data, f"{MANIFEST} in {where}")
    if told in SCHEMA_1_TYPES or not told:
        told = OCI_MANIFEST  # whose parser says what it is instead
    return Descriptor(media_type=told, digest=digests.of(data), size=len(data))


def _blob_name(digest: str) -> str:
    algorithm, value = digests.split(digest, "a blob's name")
    return value if algorithm == "sha256" else f"{algorithm}-{value}"
