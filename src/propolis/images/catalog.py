"""The images of this host as a user sees them: listed, looked into, given another name."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from propolis.errors import ImageInvalid, InvalidArgument
from propolis.host.directories import cache_directory
from propolis.image.document import MAX_DOCUMENT, load
from propolis.image.manifest import Layer
from propolis.image.registry.name import parse_name
from propolis.images.inventory import Inventory, Match, Sizes, bare
from propolis.images.reach import Reach, Variant
from propolis.state.leases import collecting


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSummary:
    """One name of one image, or an image without any."""

    name: str
    """In full, `HOST/REPOSITORY:TAG` or `HOST/REPOSITORY@DIGEST`; empty where it has none."""
    digest: str
    """Of the manifest, or of the index of several."""
    platforms: tuple[str, ...]
    """Of the images that are here: `linux/amd64`."""
    created: str
    """When it was made, as it says itself; empty where it does not."""
    used: float
    """When it was last asked for here, in seconds since the epoch."""
    size: int
    """Bytes of its blobs and disks on this host."""
    unique: int
    """Bytes of those that are no other image's."""
    is_complete: bool
    """Whether a machine can be started from it without fetching anything."""
    machines: tuple[str, ...]
    """Names of those that use it."""


def list_images(name: str = "") -> list[ImageSummary]:
    """The images by name, then those without one; only those whose repository or full name is `name`, if it is given.

    Raises:
        InvalidArgument: `name` is no name.
        DiskError: the cache cannot be read.
    """
    wanted = _wanted(name) if name else None
    inventory = Inventory.look(cache_directory())
    sizes = Sizes.of(inventory)
    named = [
        _summary(inventory, sizes, record.name, record.digest, record.used)
        for record in inventory.records
        if wanted is None or wanted in (parse_name(record.name).place, record.name)
    ]
    if wanted is not None:
        return named
    unnamed = []
    for digest in inventory.unnamed():
        with contextlib.suppress(FileNotFoundError):  # collected meanwhile
            used = inventory.store.path(digest).stat().st_mtime
            unnamed.append(_summary(inventory, sizes, "", digest, used))
    return named + unnamed


def inspect(*names: str) -> list[dict[str, Any]]:
    """All that is known of images, as JSON knows it; one item for each platform of each that is here.

    Keys are docker's where docker has one.

    Raises:
        ImageNotFound: there is no such image, or no more of it than its name.
        InvalidArgument: it is no name, or several images begin so.
        DiskError: the cache cannot be read.
    """
    inventory = Inventory.look(cache_directory())
    sizes = Sizes.of(inventory)
    matches = [inventory.find_whole(name) for name in names]
    return [
        _described(inventory, sizes, match, variant)
        for match in matches
        for variant in inventory.reach(match.digest).variants
    ]


def tag(source: str, target: str) -> None:
    """From now on `target` names what `source` does.

    Args:
        source: a name, or a digest or the beginning of one.
        target: a name without a digest; `:latest` where it has no tag.

    Raises:
        ImageNotFound: there is no such image on this host.
        InvalidArgument: one of them is no name, or it cannot be given.
        StorageFull, DiskError: the cache cannot be written to.
    """
    name = parse_name(bare(target))
    if name.digest:
        raise InvalidArgument(f"{target[:200]!r} has a digest, which cannot be given", hint="give a name with a tag")
    cache = cache_directory()
    with collecting(cache):
        inventory = Inventory.take(cache)
        match = inventory.find_whole(source)
        is_same = any(record.name == str(name) and record.digest == match.digest for record in inventory.records)
        if not is_same:  # what a registry has under that name, nobody knows
            inventory.tags.keep(str(name), match.digest)


def _summary(inventory: Inventory, sizes: Sizes, name: str, digest: str, used: float) -> ImageSummary:
    reach = inventory.reach(digest)
    return ImageSummary(
        name=name,
        digest=digest,
        platforms=tuple(str(variant.config.platform) for variant in reach.variants),
        created=max((_created(inventory, variant) for variant in reach.variants), default=""),
        used=used,
        size=sizes.total(reach.names),
        unique=sizes.unique(reach.names),
        is_complete=any(_is_complete(inventory, sizes, variant) for variant in reach.variants),
        machines=inventory.machines(digest),
    )


def _wanted(name: str) -> str:
    name = bare(name)
    parsed = parse_name(name)
    has_tag = parsed.digest or ":" in name.rpartition("/")[2]
    return str(parsed.as_kept) if has_tag else parsed.place


def _document(inventory: Inventory, variant: Variant) -> Mapping[str, Any]:
    """The config as it is; the parts that are used have to be looked at."""
    data = inventory.store.read(variant.manifest.config.digest, MAX_DOCUMENT) or b"{}"
    try:
        found = load(data, "config")
    except ImageInvalid:
        return {}
    return found if isinstance(found, dict) else {}


def _created(inventory: Inventory, variant: Variant) -> str:
    created = _document(inventory, variant).get("created")
    return created[:40] if isinstance(created, str) else ""


def _is_complete(inventory: Inventory, sizes: Sizes, variant: Variant) -> bool:
    def is_here(layer: Layer) -> bool:
        return any(disk.is_current for disk in sizes.disks.get(layer.diff_id, ())) or inventory.store.has(layer.digest)

    return all(map(is_here, variant.layers))


def _described(inventory: Inventory, sizes: Sizes, match: Match, variant: Variant) -> dict[str, Any]:
    document, reach = _document(inventory, variant), inventory.reach(match.digest)
    names = [parse_name(record.name) for record in inventory.records if record.digest == match.digest]
    platform = variant.config.platform
    return {
        "Id": match.digest,
        "RepoTags": [str(name) for name in names if not name.digest],
        "RepoDigests": sorted({f"{name.place}@{match.digest}" for name in names}),
        "Manifest": variant.digest,
        "ConfigDigest": variant.manifest.config.digest,
        "Created": _created(inventory, variant),
        "Architecture": platform.architecture,
        "Os": platform.os,
        "Variant": platform.variant,
        "Config": document.get("config") if isinstance(document.get("config"), dict) else {},
        "Size": sizes.total(_of_variant(reach, variant)),
        "UniqueSize": sizes.unique(_of_variant(reach, variant)),
        "Complete": _is_complete(inventory, sizes, variant),
        "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in variant.layers]},
        "Layers": [_layer(inventory, sizes, layer) for layer in variant.layers],
        "Machines": list(inventory.machines(match.digest)),
    }


def _of_variant(reach: Reach, variant: Variant) -> Sequence[str]:
    """What belongs to it, without what is other platforms'."""
    layers = [name for layer in variant.layers for name in (layer.digest, layer.diff_id)]
    return (reach.digest, variant.digest, variant.manifest.config.digest, *layers)


def _layer(inventory: Inventory, sizes: Sizes, layer: Layer) -> dict[str, Any]:
    path = inventory.store.path(layer.digest)
    disks = sizes.disks.get(layer.diff_id, ())
    return {
        "Digest": layer.digest,
        "DiffId": layer.diff_id,
        "MediaType": layer.media_type,
        "Size": layer.size,
        "Blob": str(path) if path.is_file() else None,
        "Disks": [{"Path": str(disk.path), "Format": disk.format, "Size": disk.size} for disk in disks],
    }
