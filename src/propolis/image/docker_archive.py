"""Images in the tar that `docker save`, `podman save` and skopeo's docker-archive transport write.

Follows docker's image specification v1.2 ("Combined Image JSON + Filesystem Changeset Format"): `manifest.json` lists
images with the archive's names of their config and layers. Layers are plain tars, sometimes gzip-compressed; nothing
but their diff_ids names them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from propolis.errors import DigestMismatch, ImageInvalid, ImageNotFound, InvalidArgument
from propolis.image import digest as digests
from propolis.image.compression import MAGIC_LENGTH, Compression, sniff
from propolis.image.document import MAX_DOCUMENT, Fields, load
from propolis.image.files import Files, read_all
from propolis.image.manifest import (
    DOCKER_LAYER,
    MAX_LAYERS,
    MAX_MANIFESTS,
    Config,
    Layer,
    Platform,
    parse_config,
)
from propolis.image.platforms import fits
from propolis.image.selection import mismatch
from propolis.image.source import Found

_SUFFIX = {Compression.NONE: "", Compression.GZIP: ".gzip", Compression.ZSTD: ".zstd"}
_LONGEST_SHOWN = 200
"""Characters of a name in messages."""
_HEX = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True, slots=True)
class _Listed:
    """One item of manifest.json."""

    config: str
    tags: tuple[str, ...]
    layers: tuple[str, ...]


class DockerArchiveSource:
    """The images in a docker-save tar."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._names: dict[str, str] = {}
        """Archive names of the layers of images that were found, by diff_id."""
        self.config_document = b""
        """Of the image that was found last, as it lies in the archive."""

    def find(self, name: str, digest: str, wanted: Platform) -> Found:
        """See `ImageSource.find`; the digest is the config's, docker's image ID."""
        images = self._listed()
        where = self._files.where
        if digest:
            images = [item for item in images if self._config(item)[0] == digest]
        elif name:
            images = [item for item in images if any(_same_name(name, tag) for tag in item.tags)]
        if not images:
            raise ImageNotFound(f"there is no image {digest or name!r} in {where}", hint=_listing(self._listed()))
        if len({item.config for item in images}) > 1:
            raise InvalidArgument(f"{where} holds several images", hint=f"name one: {_listing(images)}")
        image_id, config = self._config(images[0])
        self.config_document = read_all(self._files, images[0].config, MAX_DOCUMENT)
        if not fits(config.platform, wanted):
            raise mismatch([str(config.platform)], wanted, f"the image in {where}")
        return Found(digest=image_id, config=config, layers=self._layers(images[0], config))

    def images(self) -> Iterator[tuple[tuple[str, ...], str, Found]]:
        """Every image: its tags, the archive's name of its config, and what `find` would tell of it, for any platform.

        Raises:
            ImageNotFound, ImageInvalid: as `find`.
        """
        for item in self._listed():
            image_id, config = self._config(item)
            yield item.tags, item.config, Found(digest=image_id, config=config, layers=self._layers(item, config))

    def open_layer(self, layer: Layer) -> BinaryIO:
        """See `ImageSource.open_layer`."""
        return self._files.open(self.place(layer))[0]

    def place(self, layer: Layer) -> str:
        """The archive's name of a layer of the image that was found last."""
        return self._names[layer.diff_id]

    def close(self) -> None:
        """See `ImageSource.close`."""
        self._files.close()

    def _listed(self) -> list[_Listed]:
        what = f"manifest.json in {self._files.where}"
        items = load(read_all(self._files, "manifest.json", MAX_DOCUMENT), what)
        images = Fields({"images": items}, what).objects("images", MAX_MANIFESTS)
        if not images:
            raise ImageNotFound(f"{what} lists no image")
        return [
            _Listed(item.text("Config"), item.texts("RepoTags", MAX_MANIFESTS), item.texts("Layers", MAX_LAYERS))
            for item in images
        ]

    def _config(self, image: _Listed) -> tuple[str, Config]:
        """The image ID and the config."""
        what = f"{image.config[:120]} in {self._files.where}"
        data = read_all(self._files, image.config, MAX_DOCUMENT)
        image_id = digests.of(data)
        named = _HEX.search(image.config)
        if named and image_id != f"sha256:{named.group()}":
            raise DigestMismatch(f"{what} is not what its name says", hint="get another copy of the image")
        return image_id, parse_config(data, what)

    def _layers(self, image: _Listed, config: Config) -> tuple[Layer, ...]:
        if len(image.layers) != len(config.diff_ids):
            raise ImageInvalid(
                f"{image.config[:120]} in {self._files.where} lists {len(config.diff_ids)} diff_ids for "
                f"{len(image.layers)} layers"
            )
        layers = []
        for name, diff_id in zip(image.layers, config.diff_ids, strict=True):
            file, size = self._files.open(name)
            with file:
                compression = sniff(file.read(MAGIC_LENGTH))
            plain = compression is Compression.NONE
            media_type = DOCKER_LAYER + _SUFFIX[compression]
            layers.append(Layer(digest=diff_id if plain else "", size=size, media_type=media_type, diff_id=diff_id))
            self._names[diff_id] = name
        return tuple(layers)


def _same_name(wanted: str, tag: str) -> bool:
    """Whether `wanted` is `tag`: in full, in docker's short form, or its last part."""
    return _normal(wanted) == _normal(tag) or wanted == tag.rpartition(":")[2]


def _normal(name: str) -> str:
    if ":" not in name.rpartition("/")[2]:
        name += ":latest"
    return name.removeprefix("docker.io/").removeprefix("library/")


def _listing(images: list[_Listed]) -> str:
    shown = [
        f":{item.tags[0][:_LONGEST_SHOWN]}" if item.tags else f"@sha256:... of {item.config[:80]}"
        for item in images[:10]
    ]
    more = f" and {len(images) - 10} more" if len(images) > 10 else ""
    return "it has " + ", ".join(shown) + more
