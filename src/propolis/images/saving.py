"""Images become one tar that is an OCI image layout and what `docker load` reads, both at once.

As docker writes it since version 25: blobs by digest, `index.json` and `oci-layout` beside docker's `manifest.json`.
Blobs go in as they are, so that the image has the same digest wherever it is loaded. The same images give the same
bytes. Follows image-layout.md of the OCI image specification 1.1 and docker's image specification v1.2.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from propolis.errors import DigestMismatch, ImageNotFound, InvalidArgument, PropolisError
from propolis.host.directories import cache_directory
from propolis.host.files import stage, sweep
from propolis.image import digest as digests
from propolis.image.manifest import INDEX_TYPES, OCI_INDEX, Layer
from propolis.image.registry.name import ImageName, parse_name
from propolis.image.store import BlobStore
from propolis.image.tags import TagRecord
from propolis.images.inventory import Inventory, Match
from propolis.images.reach import Reach, Variant, blobs_of
from propolis.progress import Reporter, Silent
from propolis.spec import PullPolicy
from propolis.state.leases import Lease

_STEP, _FETCH = "save image", "fetch layer"
_ATTEMPTS = 5
_PIECE = 1 << 20
_REF_NAME, _FULL_NAME = "org.opencontainers.image.ref.name", "io.containerd.image.name"
_LAYOUT = json.dumps({"imageLayoutVersion": "1.0.0"}).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    """One image, and the names under which it is saved."""

    reach: Reach
    names: tuple[ImageName, ...]
    records: tuple[TagRecord, ...]
    """All names that it has here: where it can be fetched from."""


def save(names: str | Iterable[str], output: str | Path | BinaryIO, *, reporter: Reporter | None = None) -> None:
    """Write images of this host into one archive. Layers that are not here any more are fetched once more.

    Args:
        names: names, or digests or beginnings of such; an image is saved with the names that it is asked for by.
        output: a file, which will be there whole or not at all, or something to write to.
        reporter: hears about progress.

    Raises:
        ImageNotFound: there is no such image, or a part of it is neither here nor anywhere else.
        InvalidArgument: it is no name, or several images begin so; or `output` is there and is no file.
        RegistryError: a layer cannot be fetched.
        StorageFull, DiskError: the archive cannot be written, or the cache not be read.
    """
    if isinstance(output, str | Path) and Path(output).exists() and not Path(output).is_file():
        raise InvalidArgument(f"{output} is there and is no file", hint="name another, or write to standard output")
    reporter = reporter or Silent()
    cache = cache_directory()
    with Lease(cache) as lease:
        images = _held(cache, (names,) if isinstance(names, str) else tuple(names), lease)
        store = BlobStore(cache / "blobs")
        blobs = dict.fromkeys(digest for image in images for digest in _complete(store, image, reporter))
        if not isinstance(output, str | Path):
            _write(output, store, images, blobs, reporter)
            return
        target = Path(output)
        sweep(target.parent)
        with stage(target) as staged, open(staged.descriptor, "wb", closefd=False) as file:
            _write(file, store, images, blobs, reporter)


def _held(cache: Path, names: Sequence[str], lease: Lease) -> list[_Image]:
    """What is meant, so that none of it goes away before it is written."""
    for _ in range(_ATTEMPTS):
        inventory = Inventory.look(cache)
        images = _merged(inventory, [inventory.find_whole(name) for name in names])
        lease.add(name for image in images for name in image.reach.names)
        if all(inventory.store.has(digest) for image in images for digest in image.reach.documents):
            break
    return images


def _merged(inventory: Inventory, matches: Sequence[Match]) -> list[_Image]:
    """Each image once, with all the names that were given for it."""
    asked: dict[str, dict[ImageName, None]] = {}
    for match in matches:
        names = asked.setdefault(match.digest, {})
        if match.by_name:
            names.update((parse_name(record.name), None) for record in match.records)
    return [
        _Image(
            reach=inventory.reach(digest),
            names=tuple(names),
            records=tuple(record for record in inventory.records if record.digest == digest),
        )
        for digest, names in asked.items()
    ]


def _complete(store: BlobStore, image: _Image, reporter: Reporter) -> list[str]:
    """Digests of all blobs of an image, verified to be here; what other platforms lack is left out."""
    variants = {variant.digest: variant for variant in image.reach.variants}
    found: list[str] = []
    for digest, (media_type, _) in image.reach.documents.items():
        found.append(digest)
        if media_type in INDEX_TYPES:
            continue
        parts = [part.digest for part in blobs_of(store, digest)]
        if digest in variants:
            for layer in {layer.digest: layer for layer in variants[digest].layers}.values():
                if not store.check(layer.digest):
                    _fetch(store, image, variants[digest], layer, reporter)
            found += parts
        else:
            found += [part for part in parts if store.check(part)]
    return found


def _fetch(store: BlobStore, image: _Image, variant: Variant, layer: Layer, reporter: Reporter) -> None:
    """Get a layer that is not here once more; it stays, verified."""
    fetched = [record for record in image.records if record.is_fetched]
    if not fetched:
        raise _missing(image, str(layer))
    from propolis.image.registry.source import RegistrySource

    source = RegistrySource(store, PullPolicy.MISSING)
    source.find(parse_name(fetched[0].name).place, variant.digest, variant.config.platform)
    reporter.begin(_FETCH, layer.digest, layer.size)
    hashed, buffer = digests.hasher(layer.digest), memoryview(bytearray(_PIECE))
    with source.open_layer(layer) as blob:
        while count := blob.readinto(buffer):  # type: ignore[attr-defined]
            hashed.update(buffer[:count])
            reporter.advance(_FETCH, layer.digest, count)
        if hashed.hexdigest() != layer.digest.partition(":")[2]:
            raise DigestMismatch(
                f"{layer} is not what its digest names", hint="the registry, or the way to it, is broken"
            )
    reporter.end(_FETCH, layer.digest)
    if not store.check(layer.digest):
        raise _missing(image, str(layer))


def _missing(image: _Image, what: str) -> PropolisError:
    name = str(image.names[0]) if image.names else digests.short(image.reach.digest)
    return ImageNotFound(
        f"{what} of {name} is not on this host, and no registry is known to have it under a name of this host",
        hint="pull or load the image again",
    )


def _write(
    file: BinaryIO, store: BlobStore, images: Sequence[_Image], blobs: Iterable[str], reporter: Reporter
) -> None:
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_PIECE) as archive:
        for name, data in (("oci-layout", _LAYOUT), ("index.json", _index(images)), ("manifest.json", _docker(images))):
            archive.addfile(_member(name, len(data)), io.BytesIO(data))
        for digest in sorted(blobs):
            with store.path(digest).open("rb") as blob:
                size = store.path(digest).stat().st_size
                reporter.begin(_STEP, digest, size)
                archive.addfile(_member(_blob_name(digest), size), blob)
                reporter.end(_STEP, digest)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _index(images: Sequence[_Image]) -> bytes:
    items = [_listed(image, name) for image in images for name in (image.names or (None,))]
    return _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": items})


def _listed(image: _Image, name: ImageName | None) -> dict[str, Any]:
    media_type, size = image.reach.documents[image.reach.digest]
    item: dict[str, Any] = {"mediaType": media_type, "digest": image.reach.digest, "size": size}
    if media_type not in INDEX_TYPES:
        platform = image.reach.variants[0].config.platform
        parts = {"architecture": platform.architecture, "os": platform.os, "variant": platform.variant}
        item["platform"] = {key: value for key, value in parts.items() if value}
    if name is not None:
        item["annotations"] = {_FULL_NAME: str(name)} | ({_REF_NAME: name.tag} if name.tag else {})
    return item


def _docker(images: Sequence[_Image]) -> bytes:
    """What docker reads: one platform of each image."""
    return _json(
        [
            {
                "Config": _blob_name(image.reach.variants[0].manifest.config.digest),
                "RepoTags": [f"{name.familiar}:{name.tag}" for name in image.names if name.tag] or None,
                "Layers": [_blob_name(layer.digest) for layer in image.reach.variants[0].layers],
            }
            for image in images
        ]
    )


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()
