"""An image opened by who is going to use it: what it is made of is under a lease before any of it is looked for."""

from collections.abc import Callable
from pathlib import Path

from propolis.image.source import Image
from propolis.image.store import BlobStore
from propolis.images.reach import Reach, follow
from propolis.state.leases import Lease

_ATTEMPTS = 5


def open_held(opened: Callable[[], Image], cache: Path, lease: Lease) -> Image:
    """The image that `opened` opens; what it is made of is in `lease`, which has been taken. To be closed.

    Raises:
        What `opened` raises.
        StorageFull: no room for the lease.
    """
    store = BlobStore(cache / "blobs")
    for attempt in range(1, _ATTEMPTS + 1):
        image = opened()
        try:
            layers = {name for layer in image.layers for name in (layer.digest, layer.diff_id) if name}
            if not image.digest:  # a root file system without an image around it
                lease.add(layers)
                return image
            found = follow(store, image.digest)
            lease.add({image.digest, *layers} | found.names)
            if attempt == _ATTEMPTS or _is_here(store, found) or not _is_from_registry(image):
                return image
        except BaseException:
            image.close()
            raise
        image.close()  # its documents were collected between being found and being held
    raise AssertionError


def _is_here(store: BlobStore, found: Reach) -> bool:
    return any(store.has(variant.digest) and store.has(variant.manifest.config.digest) for variant in found.variants)


def _is_from_registry(image: Image) -> bool:
    """Asked only where documents are missing, as those of archives are."""
    from propolis.image.registry.source import RegistrySource

    return isinstance(image.source, RegistrySource)
