"""An image opened by who is going to use it: what it is made of is under a lease before any of it is looked for."""

from pathlib import Path

from propolis.image.opening import open_image
from propolis.image.source import Image
from propolis.image.store import BlobStore
from propolis.images.reach import Reach, follow
from propolis.spec import Architecture, PullPolicy
from propolis.state.leases import Lease

_ATTEMPTS = 5


def open_held(
    reference: str,
    architecture: Architecture,
    cache: Path,
    lease: Lease,
    pull: PullPolicy = PullPolicy.MISSING,
    signature_policy: Path | None = None,
) -> Image:
    """`open_image`; what the image is made of is in `lease`, which has been taken.

    Raises:
        What `open_image` raises.
    """
    store = BlobStore(cache / "blobs")
    for _ in range(_ATTEMPTS):
        image = open_image(reference, architecture, store, pull, signature_policy)
        found = follow(store, image.digest)
        layers = {name for layer in image.layers for name in (layer.digest, layer.diff_id) if name}
        lease.add({image.digest, *layers} | found.names)
        if _is_here(store, found) or not _is_from_registry(image):
            break
        # its documents were collected between being found and being held
    return image


def _is_here(store: BlobStore, found: Reach) -> bool:
    return any(store.has(variant.digest) and store.has(variant.manifest.config.digest) for variant in found.variants)


def _is_from_registry(image: Image) -> bool:
    """Asked only where documents are missing, as those of archives are."""
    from propolis.image.registry.source import RegistrySource

    return isinstance(image.source, RegistrySource)
