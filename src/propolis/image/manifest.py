"""Index, manifest and configuration of an image as frozen values, parsed from bytes that may be hostile.

Pure: no I/O; digests of the documents themselves are checked by whoever read them. Follows the OCI image specification
1.1 (image-index.md, manifest.md, config.md, descriptor.md) and docker's image manifest version 2, schema 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from propolis.errors import ImageInvalid
from propolis.image import digest as digests
from propolis.image.compression import Compression
from propolis.image.document import Fields

MAX_LAYERS = 500
MAX_MANIFESTS = 4096
MAX_BLOB = 1 << 40
"""Bytes that one blob may claim to have."""
_MAX_STRINGS = 65536

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
SCHEMA_1_TYPES = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)

INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
_CONFIG_TYPES = (OCI_CONFIG, DOCKER_CONFIG)
_LAYER_TYPES = {
    OCI_LAYER: Compression.NONE,
    OCI_LAYER + "+gzip": Compression.GZIP,
    OCI_LAYER + "+zstd": Compression.ZSTD,
    "application/vnd.oci.image.layer.nondistributable.v1.tar": Compression.NONE,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": Compression.GZIP,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": Compression.ZSTD,
    DOCKER_LAYER: Compression.NONE,
    DOCKER_LAYER + ".gzip": Compression.GZIP,
    DOCKER_LAYER + ".zstd": Compression.ZSTD,
    "application/vnd.docker.image.rootfs.foreign.diff.tar": Compression.NONE,
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": Compression.GZIP,
}


def layer_type(compression: Compression) -> str:
    """The media type of a layer that is compressed like that."""
    return OCI_LAYER if compression is Compression.NONE else f"{OCI_LAYER}+{compression}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What an image runs on, in Go's words (`amd64`, not `x86_64`)."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        """`os/architecture[/variant]`."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """Names a blob: what it is, its digest, its size in bytes."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One image for one platform. Every layer is of a type that can be unpacked."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the image says about running it. `Volumes`, `ExposedPorts` and `Healthcheck` are not kept."""

    platform: Platform
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    """`NAME=value`, in order; items of another form set nothing and are left out, as docker does."""
    working_dir: str = "/"
    user: str = ""
    stop_signal: str = ""
    diff_ids: tuple[str, ...] = ()
    """Digests of the uncompressed layers, lowest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer's blob.

    `digest` is empty where nothing names the blob's own bytes (a compressed layer in a docker-archive); the `diff_id`,
    the digest of the uncompressed tar, is always known.
    """

    digest: str
    size: int
    media_type: str
    diff_id: str

    @property
    def compression(self) -> Compression:
        """How the blob is compressed, as its media type says."""
        return _LAYER_TYPES[self.media_type]

    def __str__(self) -> str:
        """How messages name the layer."""
        return f"layer {digests.short(self.digest or self.diff_id)}"


def parse_index(data: bytes, what: str) -> tuple[Descriptor, ...]:
    """The manifests of an index. `what` names the document in messages.

    Raises:
        ImageInvalid: the document breaks the specification; the message names the field.
    """
    fields = Fields.parse(data, what)
    _check_kind(fields, what, INDEX_TYPES, ("config", "layers"))
    return tuple(_descriptor(item) for item in fields.objects("manifests", MAX_MANIFESTS))


def parse_manifest(data: bytes, what: str) -> Manifest:
    """One image's manifest.

    Raises:
        ImageInvalid: the document breaks the specification, or is an artifact and no image.
    """
    fields = Fields.parse(data, what)
    _check_kind(fields, what, MANIFEST_TYPES, ("manifests",))
    config = fields.mapping("config")
    if config is None:
        raise ImageInvalid(f"{fields.at('config')} is missing")
    described = _descriptor(config)
    if described.media_type not in _CONFIG_TYPES:
        raise ImageInvalid(
            f"{what} is no container image: its config is of type {described.media_type[:120]!r}",
            hint="this is some other artifact; name an image",
        )
    layers = tuple(_descriptor(item) for item in fields.objects("layers", MAX_LAYERS))
    for number, layer in enumerate(layers):
        if layer.media_type not in _LAYER_TYPES:
            raise ImageInvalid(
                f"{fields.at('layers')}[{number}].mediaType is {layer.media_type[:120]!r}, which cannot be unpacked",
                hint="convert the image: skopeo copy --format oci --dest-compress-format gzip ...",
            )
    return Manifest(config=described, layers=layers)


def parse_children(data: bytes, what: str) -> tuple[Descriptor, ...]:
    """Whatever an index, a manifest or an artifact's manifest is made of, usable or not.

    Raises:
        ImageInvalid: the document breaks the specification; the message names the field.
    """
    fields = Fields.parse(data, what)
    config = fields.mapping("config")
    items = [*fields.objects("manifests", MAX_MANIFESTS), *fields.objects("layers", MAX_LAYERS)]
    return tuple(_descriptor(item) for item in ([] if config is None else [config]) + items)


def media_type_of(data: bytes, what: str) -> str:
    """The media type of an index or manifest that no descriptor described.

    Raises:
        ImageInvalid: it is neither.
    """
    fields = Fields.parse(data, what)
    default = OCI_INDEX if "manifests" in fields else OCI_MANIFEST if "layers" in fields or "config" in fields else ""
    return fields.text("mediaType", default)


def parse_config(data: bytes, what: str) -> Config:
    """The image's configuration.

    Raises:
        ImageInvalid: the document breaks the specification; the message names the field.
    """
    fields = Fields.parse(data, what)
    rootfs = fields.mapping("rootfs")
    if rootfs is None:
        raise ImageInvalid(f"{fields.at('rootfs')} is missing")
    diff_ids = rootfs.texts("diff_ids", MAX_LAYERS)
    for number, diff_id in enumerate(diff_ids):
        digests.split(diff_id, f"{rootfs.at('diff_ids')}[{number}]")
    run = fields.mapping("config") or Fields({}, what)
    working_dir = run.text("WorkingDir", "") or "/"
    return Config(
        platform=_platform(fields),
        entrypoint=run.texts("Entrypoint", _MAX_STRINGS),
        cmd=run.texts("Cmd", _MAX_STRINGS),
        env=tuple(item for item in run.texts("Env", _MAX_STRINGS) if "=" in item[1:]),
        working_dir=working_dir if working_dir.startswith("/") else "/" + working_dir,
        user=run.text("User", ""),
        stop_signal=run.text("StopSignal", ""),
        diff_ids=diff_ids,
    )


def pair_layers(manifest: Manifest, config: Config, what: str) -> tuple[Layer, ...]:
    """The layers with their diff_ids, lowest first.

    Raises:
        ImageInvalid: there are not as many diff_ids as layers.
    """
    if len(manifest.layers) != len(config.diff_ids):
        raise ImageInvalid(
            f"{what} has {len(manifest.layers)} layers, but its config lists {len(config.diff_ids)} diff_ids"
        )
    return tuple(
        Layer(digest=item.digest, size=item.size, media_type=item.media_type, diff_id=diff_id)
        for item, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    )


def _check_kind(fields: Fields, what: str, types: tuple[str, ...], foreign: tuple[str, ...]) -> None:
    media_type = fields.text("mediaType", types[0])
    if media_type in SCHEMA_1_TYPES or "fsLayers" in fields:
        raise ImageInvalid(
            f"{what} is in docker's schema 1, which is obsolete", hint="convert it: skopeo copy --format v2s2 ..."
        )
    if fields.integer("schemaVersion", 1 << 31) != 2:
        raise ImageInvalid(f"{fields.at('schemaVersion')} is not 2")
    if media_type not in types:
        raise ImageInvalid(f"{fields.at('mediaType')} is {media_type[:120]!r}, expected {types[0]}")
    for key in foreign:
        if key in fields:
            # One document that is an index to one reader and a manifest to another (CVE-2021-41190).
            raise ImageInvalid(f"{fields.at(key)} does not belong into a document of type {media_type}")


def _descriptor(fields: Fields) -> Descriptor:
    digest = fields.text("digest")
    digests.split(digest, fields.at("digest"))
    platform = fields.mapping("platform")
    return Descriptor(
        media_type=fields.text("mediaType"),
        digest=digest,
        size=fields.integer("size", MAX_BLOB),
        platform=None if platform is None else _platform(platform),
        annotations=fields.strings_by_name("annotations"),
    )


def _platform(fields: Fields) -> Platform:
    return Platform(os=fields.text("os"), architecture=fields.text("architecture"), variant=fields.text("variant", ""))
