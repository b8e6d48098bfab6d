"""Images in an OCI image layout, a directory or a tar of one.

Follows image-layout.md of the OCI image specification 1.1. Tags are the annotation `org.opencontainers.image.ref.name`;
full names are taken from there or from containerd's `io.containerd.image.name`, as docker writes it.
"""

from typing import BinaryIO

from propolis.errors import ImageInvalid, ImageNotFound, InvalidArgument
from propolis.image import digest as digests
from propolis.image.document import MAX_DOCUMENT, Fields
from propolis.image.files import Files, read_all
from propolis.image.manifest import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    Layer,
    Platform,
    media_type_of,
    pair_layers,
    parse_index,
)
from propolis.image.selection import select
from propolis.image.source import Found
from propolis.image.store import BlobStore

_NAME_ANNOTATIONS = ("org.opencontainers.image.ref.name", "io.containerd.image.name")
_VERSION = "1.0.0"
_LONGEST_SHOWN = 200
"""Characters of a name in messages."""


class LayoutSource:
    """An OCI image layout in `files`; documents are kept in `store`."""

    def __init__(self, files: Files, store: BlobStore) -> None:
        self._files = files
        self._store = store

    def find(self, name: str, digest: str, wanted: Platform) -> Found:
        """See `ImageSource.find`."""
        where = self._files.where
        self._check_version()
        index = parse_index(read_all(self._files, "index.json", MAX_DOCUMENT), f"index.json in {where}")
        named = _named(index, name, where) if name or not digest else index
        candidates = self._of_digest(named, digest) if digest else named
        if not digest:
            _check_unambiguous(candidates, where)
        found = select(candidates, wanted, self._document, f"the image in {where}")
        what = f"manifest {digests.short(found.descriptor.digest)}"
        return Found(
            digest=found.descriptor.digest,
            config=found.config,
            layers=pair_layers(found.manifest, found.config, what),
        )

    def open_layer(self, layer: Layer) -> BinaryIO:
        """See `ImageSource.open_layer`."""
        return self._files.open(_blob_name(layer.digest))[0]

    def close(self) -> None:
        """See `ImageSource.close`."""
        self._files.close()

    def _check_version(self) -> None:
        where = self._files.where
        try:
            marker = Fields.parse(read_all(self._files, "oci-layout", MAX_DOCUMENT), f"oci-layout in {where}")
        except ImageNotFound:
            raise ImageNotFound(
                f"{where} is not an OCI image layout: it has no file oci-layout",
                hint="make one with skopeo copy docker://IMAGE oci:DIR:TAG; a root file system is run with --rootfs",
            ) from None
        version = marker.text("imageLayoutVersion")
        if version != _VERSION:
            raise ImageInvalid(f"{where} is an OCI image layout of version {version[:40]!r}; only {_VERSION} is known")

    def _of_digest(self, index: tuple[Descriptor, ...], digest: str) -> tuple[Descriptor, ...]:
        """The one of that digest: listed in index.json, or any other manifest or index among the blobs."""
        for descriptor in index:
            if descriptor.digest == digest:
                return (descriptor,)
        try:
            data = read_all(self._files, _blob_name(digest), MAX_DOCUMENT)
        except ImageNotFound:
            raise ImageNotFound(f"there is no {digest} in {self._files.where}", hint=_listing(index)) from None
        media_type = media_type_of(data, f"blob {digests.short(digest)}")
        return (Descriptor(media_type=media_type, digest=digest, size=len(data)),)

    def _document(self, descriptor: Descriptor) -> bytes:
        """A manifest, index or config, from the store or from here; verified either way."""
        return self._store.document(
            descriptor, self._files.where, lambda: read_all(self._files, _blob_name(descriptor.digest), MAX_DOCUMENT)
        )


def _blob_name(digest: str) -> str:
    algorithm, value = digests.split(digest, "a blob's name")
    return f"blobs/{algorithm}/{value}"


def _names(descriptor: Descriptor) -> list[str]:
    return [descriptor.annotations[key] for key in _NAME_ANNOTATIONS if key in descriptor.annotations]


def _named(index: tuple[Descriptor, ...], name: str, where: str) -> tuple[Descriptor, ...]:
    """Those called `name`: in full, or else by the last part; all images when there is no name to go by."""
    if not index:
        raise ImageNotFound(f"the OCI image layout {where} is empty", hint="copy an image into it with skopeo or umoci")
    if not name:
        images = tuple(item for item in index if item.media_type in INDEX_TYPES + MANIFEST_TYPES)
        return images or index
    full = tuple(item for item in index if name in _names(item))
    found = full or tuple(item for item in index if any(name == _last_part(known) for known in _names(item)))
    if not found:
        raise ImageNotFound(f"there is no image {name!r} in {where}", hint=_listing(index))
    return found


def _last_part(name: str) -> str:
    """The tag of a full name."""
    tag = name.rpartition(":")[2]
    return name if "/" in tag else tag


def _check_unambiguous(candidates: tuple[Descriptor, ...], where: str) -> None:
    """Several descriptors are one image when they are the same blob, or differ in platform only."""
    if len({item.digest for item in candidates}) < 2:
        return
    names = {tuple(_names(item)) for item in candidates}
    if len(names) > 1 or any(item.platform is None for item in candidates):
        raise InvalidArgument(f"{where} holds several images", hint=f"name one: {_listing(candidates)}")


def _listing(index: tuple[Descriptor, ...]) -> str:
    shown = [f":{_names(item)[0][:_LONGEST_SHOWN]}" if _names(item) else f"@{item.digest}" for item in index[:10]]
    more = f" and {len(index) - 10} more" if len(index) > 10 else ""
    return "it has " + ", ".join(dict.fromkeys(shown)) + more
