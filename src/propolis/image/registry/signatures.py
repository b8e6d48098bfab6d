"""Signatures of an image from its registry, as cosign leaves them there: at a tag made of the digest, or as referrers.

Bounded in number, sizes and time. Nothing is believed: `trust.verification` verifies.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue

from propolis.errors import ImageError, ImageInvalid, ImageNotFound, RegistryUnreachable
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

PATIENCE = 60.0
"""Seconds for all signatures of one image."""


def fetch_signatures(clients: Sequence[RegistryClient], digest: str, *, bundles: bool, until: float) -> list[Signature]:
    """All that there are of the image `digest` at the first of `clients` that has any; those in bundles only if asked.

    What has not come at `until`, in monotonic time, counts as not there. It is asked for in a thread, which is left to
    itself then: each wait of it is bounded, but not their sum.

    Raises:
        AccessDenied, RegistryUnreachable, RegistryError: none of the registries answers, or not in time.
        ImageInvalid: what is there is no signature manifest.
    """
    come = SimpleQueue[Signature | BaseException | None]()
    is_over = threading.Event()

    def run() -> None:
        end: BaseException | None = None
        try:
            for signature in _first(clients, digest, bundles):
                come.put(signature)
                if is_over.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - it belongs to who waits
            end = error
        come.put(end)

    threading.Thread(target=run, name="propolis-signatures", daemon=True).start()
    found: list[Signature] = []
    try:
        while len(found) < MAX_SIGNATURES and (item := come.get(timeout=max(0.0, until - time.monotonic()))):
            if isinstance(item, BaseException):
                raise item
            found.append(item)
    except Empty:
        if not found:
            raise RegistryUnreachable(
                f"signatures of {digests.short(digest)} did not come from {clients[0].origin} in time",
                hint="try again later",
            ) from None
    finally:
        is_over.set()
    return found


def _first(clients: Sequence[RegistryClient], digest: str, bundles: bool) -> Iterator[Signature]:
    fault: ImageError | None = None
    for client in clients:
        has_some = False
        try:
            for signature in _all(client, digest, bundles):
                has_some = True
                yield signature
        except ImageError as error:  # a mirror may be away, or broken
            fault = error
        if has_some:
            return
    if fault is not None:
        raise fault


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
