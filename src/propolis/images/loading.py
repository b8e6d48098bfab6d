"""Images from an archive or a layout are taken into the store: afterwards they are there without it.

What `docker save`, `podman save`, skopeo, buildx and `propolis save` write. Every blob is verified; names are given
last, so an interrupted load is one that did not happen, and its leftovers are collected. Of an image for several
platforms those are taken that are there. An image without a manifest (an older docker's) gets one, always the same.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from propolis.errors import ImageError, ImageInvalid, ImageNotFound, InvalidArgument
from propolis.host.directories import cache_directory
from propolis.image import digest as digests
from propolis.image.compression import MAGIC_LENGTH, Compression, sniff
from propolis.image.docker_archive import DockerArchiveSource
from propolis.image.document import MAX_DOCUMENT, Fields
from propolis.image.document import load as parse_json
from propolis.image.files import DirectoryFiles, Files, read_all
from propolis.image.manifest import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_LAYERS,
    MAX_MANIFESTS,
    OCI_CONFIG,
    OCI_MANIFEST,
    Descriptor,
    Layer,
    layer_type,
    pair_layers,
    parse_children,
    parse_config,
    parse_index,
    parse_manifest,
)
from propolis.image.registry.name import parse_name
from propolis.image.selection import MAX_NESTING
from propolis.image.spool import spool
from propolis.image.store import BlobStore
from propolis.image.tags import TagRecords
from propolis.image.tar_files import TarFiles
from propolis.progress import Reporter, Silent
from propolis.state.leases import Lease

_STEP = "load layer"
_PIECE = 1 << 20
_MAX_DOCUMENTS = 2 * MAX_MANIFESTS
_MAX_LAYOUT_MARK = 4096
_REF_NAME, _FULL_NAME = "org.opencontainers.image.ref.name", "io.containerd.image.name"

_Open = Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """One image that is here now."""

    digest: str
    """Of its manifest or index."""
    names: tuple[str, ...]
    """In full; an image without one can be given a name by its digest, until it is collected."""


@dataclass(slots=True)
class _Image:
    """One image in the archive: what has to be copied, and what it is called."""

    digest: str = ""
    names: dict[str, None] = field(default_factory=dict)
    blobs: dict[str, tuple[int, _Open]] = field(default_factory=dict)
    """Size of each blob and document, and how to read it."""
    covered: set[str] = field(default_factory=set)
    configs: set[str] = field(default_factory=set)


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
        images = _found(files)
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


def _found(files: Files) -> list[_Image]:
    if _is_there(files, "index.json"):
        images = _Layout(files).images()
        if isinstance(files, TarFiles) and "manifest.json" in files:
            _add_docker_names(files, images)
        return images
    if isinstance(files, TarFiles) and "manifest.json" in files:
        return _docker_images(files)
    raise ImageInvalid(
        f"{files.where} holds no image", hint="give what docker save, podman save or propolis save have written"
    )


class _Layout:
    """The images of an OCI image layout."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._documents = 0

    def images(self) -> list[_Image]:
        """All that index.json lists, each once with all its names."""
        where = self._files.where
        marker = Fields.parse(read_all(self._files, "oci-layout", _MAX_LAYOUT_MARK), f"oci-layout in {where}")
        if marker.text("imageLayoutVersion") != "1.0.0":
            raise ImageInvalid(f"{where} is an OCI image layout of an unknown version")
        index = parse_index(read_all(self._files, "index.json", MAX_DOCUMENT), f"index.json in {where}")
        found: dict[str, _Image] = {}
        for listed in index:
            if listed.media_type not in INDEX_TYPES + MANIFEST_TYPES:
                continue
            if listed.digest not in found:
                image = _Image(digest=listed.digest)
                self._take(image, listed, ())
                if not image.configs:
                    raise ImageInvalid(f"{digests.short(listed.digest)} in {where} leads to no image that is there")
                found[listed.digest] = image
            _add_names(found[listed.digest], listed)
        if not found:
            raise ImageNotFound(f"{where} holds no image", hint="copy one into it with skopeo")
        return list(found.values())

    def _take(self, image: _Image, descriptor: Descriptor, above: tuple[str, ...]) -> None:
        """Add a manifest or index with all that it leads to, or nothing of it.

        Raises:
            ImageNotFound: a part of it is missing.
            ImageInvalid: it is broken, or nested too deeply.
        """
        self._documents += 1
        if len(above) > MAX_NESTING or descriptor.digest in above or self._documents > _MAX_DOCUMENTS:
            raise ImageInvalid(f"indexes in {self._files.where} are nested too deeply, or too many")
        data = self._document(descriptor)
        what = f"{digests.short(descriptor.digest)} in {self._files.where}"
        if descriptor.media_type in INDEX_TYPES:
            for child in parse_index(data, what):
                if child.media_type in INDEX_TYPES + MANIFEST_TYPES:
                    with contextlib.suppress(ImageNotFound):  # of a platform that was left out
                        self._take(image, child, (*above, descriptor.digest))
        else:
            self._take_manifest(image, data, what, is_listed=not above)
        image.blobs[descriptor.digest] = self._blob(descriptor)

    def _take_manifest(self, image: _Image, data: bytes, what: str, *, is_listed: bool) -> None:
        parts = {part.digest: self._blob(part) for part in parse_children(data, what)}
        try:
            manifest = parse_manifest(data, what)
            config = parse_config(self._document(manifest.config), f"config of {what}")
            layers = pair_layers(manifest, config, what)
        except ImageInvalid:
            if is_listed:
                raise
            layers = ()  # an attestation or the like: it belongs to the index that lists it
        else:
            image.configs.add(manifest.config.digest)
        image.covered.update(layer.diff_id for layer in layers)
        image.blobs |= parts

    def _document(self, descriptor: Descriptor) -> bytes:
        data = read_all(self._files, _blob_name(descriptor.digest), MAX_DOCUMENT)
        if len(data) != descriptor.size or not digests.matches(data, descriptor.digest):
            raise ImageInvalid(
                f"blob {digests.short(descriptor.digest)} in {self._files.where} is not what its descriptor says",
                hint="get another copy of the image",
            )
        return data

    def _blob(self, descriptor: Descriptor) -> tuple[int, _Open]:
        name = _blob_name(descriptor.digest)
        file, size = self._files.open(name)
        file.close()
        if size != descriptor.size:
            raise ImageInvalid(
                f"{name} in {self._files.where} has {size} bytes, but its descriptor says {descriptor.size}",
                hint="get another copy of the image",
            )
        return size, lambda: self._files.open(name)[0]


def _docker_images(files: TarFiles) -> list[_Image]:
    """The images of an older docker's archive, which has no manifests: each gets one."""
    source = DockerArchiveSource(files)
    found: dict[str, _Image] = {}
    for tags, config_name, listed in source.images():
        config = read_all(files, config_name, MAX_DOCUMENT)
        image = _Image()
        image.configs.add(listed.digest)
        layers = []
        for layer in listed.layers:
            digest = layer.digest or _digest_of(source.open_layer(layer))
            image.blobs[digest] = (layer.size, _opener(source, layer))
            image.covered.add(layer.diff_id)
            layers.append({"mediaType": layer_type(layer.compression), "digest": digest, "size": layer.size})
        described = {"mediaType": OCI_CONFIG, "digest": listed.digest, "size": len(config)}
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described, "layers": layers}
        data = json.dumps(manifest).encode()
        image.digest = digests.of(data)
        image.blobs |= {listed.digest: _bytes(config), image.digest: _bytes(data)}
        kept = found.setdefault(image.digest, image)
        for tag in tags:
            _add_name(kept, tag)
    return list(found.values())


def _opener(source: DockerArchiveSource, layer: Layer) -> _Open:
    return lambda: source.open_layer(layer)


def _bytes(data: bytes) -> tuple[int, _Open]:
    import io

    return len(data), lambda: io.BytesIO(data)


def _digest_of(file: BinaryIO) -> str:
    hashed = digests.hasher("sha256:")
    with file:
        for piece in _pieces(file):
            hashed.update(piece)
    return f"sha256:{hashed.hexdigest()}"


def _copy(store: BlobStore, digest: str, size: int, open_blob: _Open, reporter: Reporter) -> None:
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


def _add_names(image: _Image, listed: Descriptor) -> None:
    """A full name, if one is told; what is no more than a tag names nothing without a repository."""
    full, short = listed.annotations.get(_FULL_NAME, ""), listed.annotations.get(_REF_NAME, "")
    if full:
        _add_name(image, full)
    elif set(short) & set("/:"):
        _add_name(image, short)


def _add_docker_names(files: TarFiles, images: list[_Image]) -> None:
    """What docker's part of the archive calls the images of the other part."""
    what = f"manifest.json in {files.where}"
    items = Fields({"images": parse_json(read_all(files, "manifest.json", MAX_DOCUMENT), what)}, what)
    for item in items.objects("images", MAX_MANIFESTS):
        config = item.text("Config").rpartition("/")[2].removesuffix(".json")
        item.texts("Layers", MAX_LAYERS)
        for image in images:
            if any(known.endswith(f":{config}") for known in image.configs):
                for tag in item.texts("RepoTags", MAX_MANIFESTS):
                    _add_name(image, tag)


def _add_name(image: _Image, text: str) -> None:
    """Give it the name; what is none would be no use."""
    with contextlib.suppress(InvalidArgument):
        image.names[str(parse_name(text).as_kept)] = None


def _is_there(files: Files, name: str) -> bool:
    try:
        files.open(name)[0].close()
    except ImageNotFound:
        return False
    return True


def _blob_name(digest: str) -> str:
    algorithm, value = digests.split(digest, "a blob's name")
    return f"blobs/{algorithm}/{value}"
