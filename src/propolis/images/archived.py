"""Which images an archive or a layout holds, and what belongs to each: documents verified, layers only located.

Of an image for several platforms those are taken that are there. An image without a manifest (an older docker's) gets
one, always the same. Knows nothing of the store.
"""

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from propolis.errors import ImageInvalid, ImageNotFound, InvalidArgument
from propolis.image import digest as digests
from propolis.image.docker_archive import DockerArchiveSource
from propolis.image.document import MAX_DOCUMENT, Fields
from propolis.image.document import load as parse_json
from propolis.image.files import Files, read_all
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
from propolis.image.tar_files import TarFiles

_PIECE = 1 << 20
_MAX_DOCUMENTS = 2 * MAX_MANIFESTS
_MAX_LAYOUT_MARK = 4096
_REF_NAME, _FULL_NAME = "org.opencontainers.image.ref.name", "io.containerd.image.name"

Open = Callable[[], BinaryIO]
"""Opens one blob of an archive that stays open meanwhile."""


@dataclass(slots=True)
class ArchivedImage:
    """What has to be copied to have it elsewhere, and what it is called."""

    digest: str = ""
    """Of its manifest or index."""
    names: dict[str, None] = field(default_factory=dict)
    blobs: dict[str, tuple[int, Open]] = field(default_factory=dict)
    """Size of each blob and document, and how to read it."""
    covered: set[str] = field(default_factory=set)
    """The diff_ids of its layers."""
    configs: set[str] = field(default_factory=set)


def archived_images(files: Files) -> list[ArchivedImage]:
    """All images in there, each once.

    Raises:
        ImageNotFound: a part of an image is missing.
        ImageInvalid: it is no image's archive, or broken.
        ImageError: it cannot be read.
    """
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

    def images(self) -> list[ArchivedImage]:
        """All that index.json lists, each once with all its names."""
        where = self._files.where
        marker = Fields.parse(read_all(self._files, "oci-layout", _MAX_LAYOUT_MARK), f"oci-layout in {where}")
        if marker.text("imageLayoutVersion") != "1.0.0":
            raise ImageInvalid(f"{where} is an OCI image layout of an unknown version")
        index = parse_index(read_all(self._files, "index.json", MAX_DOCUMENT), f"index.json in {where}")
        found: dict[str, ArchivedImage] = {}
        for listed in index:
            if listed.media_type not in INDEX_TYPES + MANIFEST_TYPES:
                continue
            if listed.digest not in found:
                image = ArchivedImage(digest=listed.digest)
                self._take(image, listed, ())
                if not image.configs:
                    raise ImageInvalid(f"{digests.short(listed.digest)} in {where} leads to no image that is there")
                found[listed.digest] = image
            _add_names(found[listed.digest], listed)
        if not found:
            raise ImageNotFound(f"{where} holds no image", hint="copy one into it with skopeo")
        return list(found.values())

    def _take(self, image: ArchivedImage, descriptor: Descriptor, above: tuple[str, ...]) -> None:
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

    def _take_manifest(self, image: ArchivedImage, data: bytes, what: str, *, is_listed: bool) -> None:
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

    def _blob(self, descriptor: Descriptor) -> tuple[int, Open]:
        name = _blob_name(descriptor.digest)
        file, size = self._files.open(name)
        file.close()
        if size != descriptor.size:
            raise ImageInvalid(
                f"{name} in {self._files.where} has {size} bytes, but its descriptor says {descriptor.size}",
                hint="get another copy of the image",
            )
        return size, lambda: self._files.open(name)[0]


def _docker_images(files: TarFiles) -> list[ArchivedImage]:
    """The images of an older docker's archive, which has no manifests: each gets one."""
    source = DockerArchiveSource(files)
    found: dict[str, ArchivedImage] = {}
    known: dict[str, str] = {}
    """Digests by archive name: a file may be listed a million times, and is read once."""
    for tags, config_name, listed in source.images():
        config = read_all(files, config_name, MAX_DOCUMENT)
        image = ArchivedImage()
        image.configs.add(listed.digest)
        layers = []
        for layer in listed.layers:
            name = source.place(layer)
            if not layer.digest and name not in known:
                known[name] = _digest_of(source.open_layer(layer))
            digest = layer.digest or known[name]
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


def _opener(source: DockerArchiveSource, layer: Layer) -> Open:
    return lambda: source.open_layer(layer)


def _bytes(data: bytes) -> tuple[int, Open]:
    return len(data), lambda: io.BytesIO(data)


def _digest_of(file: BinaryIO) -> str:
    hashed = digests.hasher("sha256:")
    with file:
        while piece := file.read(_PIECE):
            hashed.update(piece)
    return f"sha256:{hashed.hexdigest()}"


def _add_names(image: ArchivedImage, listed: Descriptor) -> None:
    """A full name, if one is told; what is no more than a tag names nothing without a repository."""
    full, short = listed.annotations.get(_FULL_NAME, ""), listed.annotations.get(_REF_NAME, "")
    if full:
        _add_name(image, full)
    elif set(short) & set("/:"):
        _add_name(image, short)


def _add_docker_names(files: TarFiles, images: list[ArchivedImage]) -> None:
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


def _add_name(image: ArchivedImage, text: str) -> None:
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
