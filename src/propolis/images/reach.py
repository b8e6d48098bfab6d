"""What an image in the store is made of, followed from the digest that its name names.

Only reads, and only documents; layers are told by their descriptors. What is not here, or cannot be used, is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from propolis.errors import ImageInvalid
from propolis.image.digest import short
from propolis.image.document import MAX_DOCUMENT
from propolis.image.manifest import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Config,
    Descriptor,
    Layer,
    Manifest,
    media_type_of,
    pair_layers,
    parse_children,
    parse_config,
    parse_manifest,
)
from propolis.image.store import BlobStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """An image for one platform."""

    digest: str
    """Of its manifest."""
    manifest: Manifest
    config: Config
    layers: tuple[Layer, ...]
    """Lowest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Everything that a manifest or index leads to."""

    digest: str
    names: frozenset[str]
    """Digests of documents and blobs, here or not, and the layers' diff_ids."""
    documents: Mapping[str, tuple[str, int]]
    """Media type and size of each manifest and index that is here, by digest; this one first."""
    variants: tuple[Variant, ...]
    """The images whose manifest and config are here."""


def follow(store: BlobStore, digest: str) -> Reach:
    """What `digest` leads to; nothing but itself where it is not here or is no manifest.

    Raises:
        DiskError: the host does not let a document be read.
    """
    names, documents, variants = {digest}, dict[str, tuple[str, int]](), list[Variant]()
    pending = [digest]
    while pending:
        current = pending.pop(0)
        data = None if current in documents else store.read(current, MAX_DOCUMENT)
        if data is None:
            continue
        what = f"manifest {short(current)}"
        try:
            media_type = media_type_of(data, what)
            children = parse_children(data, what)
        except ImageInvalid:
            continue
        documents[current] = (media_type, len(data))
        names.update(child.digest for child in children)
        if media_type in INDEX_TYPES:
            pending += [child.digest for child in children if child.media_type in INDEX_TYPES + MANIFEST_TYPES]
        elif (variant := _variant(store, current, data)) is not None:
            names.update(layer.diff_id for layer in variant.layers)
            variants.append(variant)
    return Reach(digest=digest, names=frozenset(names), documents=documents, variants=tuple(variants))


def blobs_of(store: BlobStore, digest: str) -> tuple[Descriptor, ...]:
    """What the manifest `digest`, which is here, is made of: config and layers, or an artifact's parts."""
    data = store.read(digest, MAX_DOCUMENT)
    return () if data is None else parse_children(data, f"manifest {short(digest)}")


def _variant(store: BlobStore, digest: str, data: bytes) -> Variant | None:
    what = f"manifest {short(digest)}"
    try:
        manifest = parse_manifest(data, what)
        document = store.read(manifest.config.digest, MAX_DOCUMENT)
        if document is None:
            return None
        config = parse_config(document, f"config {short(manifest.config.digest)}")
        layers = pair_layers(manifest, config, what)
    except ImageInvalid:  # an artifact
        return None
    return Variant(digest=digest, manifest=manifest, config=config, layers=layers)
