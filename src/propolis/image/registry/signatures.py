"""Signatures of an image from its registry, as cosign leaves them there: at a tag made of the digest, or as referrers.

Bounded in number, sizes and time. Nothing is believed: `trust.verification` verifies.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence

from propolis.errors import ImageError, ImageInvalid, ImageNotFound
from propolis.image import digest as digests
from propolis.image.registry.client import RegistryClient
from propolis.image.trust.signature import (
    MAX_PAYLOAD,
    MAX_SIGNATURES,
    Signature,
    bundled,
    read_bundle_layer,
    read_referrers,
    read_signatures,
    simple,
)

_PATIENCE = 60.0
"""Seconds for all signatures of one image."""


def fetch_signatures(clients: Sequence[RegistryClient], digest: str, *, bundles: bool) -> list[Signature]:
    """All that there are of the image `digest` at the first of `clients` that has any; those in bundles only if asked.

    Raises:
        AccessDenied, RegistryUnreachable, RegistryError: none of the registries answers.
        ImageInvalid: what is there is no signature manifest.
    """
    until = time.monotonic() + _PATIENCE
    fault: ImageError | None = None
    for client in clients:
        found: list[Signature] = []
        try:
            for signature in _all(client, digest, bundles):
                found.append(signature)
                if len(found) >= MAX_SIGNATURES or time.monotonic() > until:
                    break
        except ImageError as error:  # a mirror may be away, or broken
            fault = error
        if found:
            return found
    if fault is not None:
        raise fault
    return []


def _all(client: RegistryClient, digest: str, bundles: bool) -> Iterator[Signature]:
    for read in (_attached, _referring) if bundles else (_attached,):
        with contextlib.suppress(ImageNotFound):
            yield from read(client, digest)


def _attached(client: RegistryClient, digest: str) -> Iterator[Signature]:
    tag = f"{digest.replace(':', '-')}.sig"
    for payload, size, encoded in read_signatures(client.manifest(tag).data, f"{client.origin}:{tag}"):
        signature = simple(_blob(client, payload, size), encoded)
        if signature is not None:
            yield signature


def _referring(client: RegistryClient, digest: str) -> Iterator[Signature]:
    for referrer in read_referrers(client.referrers(digest), f"the referrers of {digests.short(digest)}"):
        manifest = client.manifest(referrer).data
        _check(client, manifest, referrer)
        layer = read_bundle_layer(manifest, f"{client.origin}@{digests.short(referrer)}")
        signature = None if layer is None else bundled(_blob(client, *layer))
        if signature is not None:
            yield signature


def _blob(client: RegistryClient, digest: str, size: int) -> bytes:
    data = client.small_blob(digest, MAX_PAYLOAD)
    if len(data) != size:
        raise ImageInvalid(
            f"blob {digests.short(digest)} of {client.origin} is not {size} bytes long, as is said of it"
        )
    _check(client, data, digest)
    return data


def _check(client: RegistryClient, data: bytes, digest: str) -> None:
    if not digests.matches(data, digest):
        raise ImageInvalid(f"blob {digests.short(digest)} of {client.origin} is not what its digest names")
