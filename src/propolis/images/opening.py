"""An image opened by who is going to use it: what it is made of is under a lease before any of it is looked for."""

import re
from collections.abc import Callable
from pathlib import Path

from propolis.errors import ImageNotFound
from propolis.image.files import mode_of
from propolis.image.registry.name import parse_name
from propolis.image.source import Image
from propolis.image.store import BlobStore
from propolis.images.reach import Reach, follow
from propolis.state.leases import Lease

_ATTEMPTS = 5
_IDENTIFIER = re.compile(r"(sha256:|sha512:)?[0-9a-f]{12,128}")
"""At least what `propolis images` shows: less may be the name of an image in a registry."""


def reference_of(text: str, cache: Path) -> str:
    """`text` as a reference; where it is the identifier that an image of this host is listed by, a name and a digest.

    What lies at the path `text`, and an image of that name, come first.

    Raises:
        ImageNotFound: the image has no name.
        InvalidArgument: it stands for several images.
    """
    if not _IDENTIFIER.fullmatch(text) or mode_of(Path(text)):
        return text
    from propolis.images.inventory import Inventory

    try:
        match = Inventory.look(cache).find(text)
    except ImageNotFound:
        return text
    if match.by_name:
        return text
    if not match.records:
        raise ImageNotFound(f"the image {text} has no name here", hint=f"give it one: propolis tag {text} NAME")
    return f"docker://{parse_name(match.records[0].name).place}@{match.digest}"


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
