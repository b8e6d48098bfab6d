"""Images in registries as a source like any other.

What has been fetched before, and the pull policy allows, comes from the store without a connection, and without loading
what connections take.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, cast

from propolis.errors import (
    DigestMismatch,
    ImageError,
    ImageNotFound,
    PlatformMismatch,
    RegistryError,
)
from propolis.image import digest as digests
from propolis.image.document import MAX_DOCUMENT
from propolis.image.manifest import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_MANIFEST,
    SCHEMA_1_TYPES,
    Descriptor,
    Layer,
    Platform,
    media_type_of,
    pair_layers,
)
from propolis.image.registry.name import ImageName, is_qualified, parse_name
from propolis.image.registry.retry import Patience
from propolis.image.selection import Selected, select
from propolis.image.source import Found
from propolis.image.store import BlobStore
from propolis.image.tags import TagRecords
from propolis.spec import PullPolicy

if TYPE_CHECKING:
    from propolis.image.registry.client import RegistryClient
    from propolis.image.registry.configuration import Configuration
    from propolis.image.trust.signature import Signature


class _Absent(Exception):
    """A document is not in the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Top:
    """The manifest or index that a name leads to."""

    descriptor: Descriptor
    read: Callable[[Descriptor], bytes]


class RegistrySource:
    """All registries that can be reached; for one image. Documents are kept in `store`."""

    def __init__(
        self, store: BlobStore, pull: PullPolicy = PullPolicy.MISSING, patience: Patience | None = None
    ) -> None:
        """Nothing is read or connected yet."""
        self._store = store
        self._tags = TagRecords(store.tags)
        self._pull = pull
        self._patience = patience or Patience()
        self._read: Configuration | None = None
        self._name: ImageName | None = None
        self._resolved = ""
        """What the tag was found to name."""
        self._signatures_until = 0.0
        self._clients: list[RegistryClient] = []
        self._lock = threading.Lock()

    def find(self, name: str, digest: str, wanted: Platform) -> Found:
        """See `ImageSource.find`.

        Raises besides:
            AccessDenied, RegistryUnreachable, RegistryError: as their names say.
            InvalidArgument: configuration of this host cannot be used.
        """
        text = f"{name}@{digest}" if digest else name
        # a name in full needs no configuration as long as nothing is fetched
        candidates = (parse_name(text),) if is_qualified(text) else self._configuration.candidates(text)
        if self._pull is not PullPolicy.ALWAYS:
            for candidate in candidates:
                found = self._kept(candidate, wanted)
                if found is not None:
                    return found
        if self._pull is PullPolicy.NEVER:
            raise ImageNotFound(
                f"{text} is not on this host, and is not to be fetched", hint="leave out --pull never, or pull it first"
            )
        faults: list[ImageError] = []
        for candidate in candidates:
            try:
                return self._fetched(candidate, wanted)
            except (ImageNotFound, RegistryError) as error:
                faults.append(error)
        raise _last(faults, f"there is no file or directory {text[:60]!r} either" if not is_qualified(text) else "")

    def open_layer(self, layer: Layer) -> BinaryIO:
        """See `ImageSource.open_layer`; what is not here comes from the network while it is read, and is kept."""
        assert self._name is not None
        kept = self._store.open_layer(layer)
        if kept is not None:
            return kept
        if self._pull is PullPolicy.NEVER:
            raise ImageNotFound(
                f"{layer} of {self._name} is not on this host, and is not to be fetched",
                hint="leave out --pull never, or pull it first",
            )
        from propolis.image.registry.transfer import Download

        return cast(BinaryIO, Download(self._connected(), layer, self._store.partial(layer.digest), self._patience))

    def kept_signatures(self, digest: str) -> "Sequence[Signature]":
        """See `trust.verification.SignatureSource`."""
        assert self._name is not None
        from propolis.image.trust.records import SignatureRecords

        return SignatureRecords(self._store.signatures).read(self._name.place, digest)

    def fetch_signatures(self, digest: str, *, bundles: bool) -> "Sequence[Signature]":
        """See `trust.verification.SignatureSource`; none where nothing is to be fetched."""
        assert self._name is not None
        if self._pull is PullPolicy.NEVER:
            return ()
        from propolis.image.registry.signatures import PATIENCE, fetch_signatures
        from propolis.image.trust.records import SignatureRecords

        # for all digests that may be signed, and all requirements of a policy together
        self._signatures_until = self._signatures_until or time.monotonic() + PATIENCE
        found = fetch_signatures(self._connected(), digest, bundles=bundles, until=self._signatures_until)
        if found:
            SignatureRecords(self._store.signatures).keep(self._name.place, digest, found)
        return found

    def _connected(self) -> "Sequence[RegistryClient]":
        """Clients for the places that may have the image."""
        assert self._name is not None
        with self._lock:
            if not self._clients:
                self._clients = list(self._origins(self._name))
        return self._clients

    def close(self) -> None:
        """See `ImageSource.close`."""
        with self._lock:
            for client in self._clients:
                client.close()

    @property
    def _configuration(self) -> "Configuration":
        if self._read is None:
            from propolis.image.registry.files import read_configuration

            self._read = read_configuration()
        return self._read

    def _origins(self, name: ImageName) -> "Iterator[RegistryClient]":
        """Clients for the places that may have it, made as they are needed."""
        from propolis.image.registry.client import RegistryClient
        from propolis.image.registry.credentials import find_credentials

        for origin in self._configuration.origins(name):
            yield RegistryClient(origin, partial(find_credentials, origin.domain, origin.repository), self._patience)

    def _kept(self, name: ImageName, wanted: Platform) -> Found | None:
        """The image as it was last time; None where one of its documents is not here."""
        digest = name.digest or self._tags.digest(str(name))
        data = self._store.read(digest, MAX_DOCUMENT) if digest else None
        if digest is None or data is None:
            return None

        def absent() -> bytes:
            raise _Absent

        top = _Top(
            descriptor=_descriptor(data, digest, "", name),
            read=lambda descriptor: self._store.document(descriptor, "the store", absent),
        )
        try:
            found = self._chosen(name, top, wanted)
        except _Absent:
            return None
        self._tags.touch(str(name.as_kept))
        return found

    def _fetched(self, name: ImageName, wanted: Platform) -> Found:
        faults: list[ImageError] = []
        clients = self._origins(name)
        for client in clients:
            try:
                found = self._chosen(name, self._top(client, name), wanted)
            except PlatformMismatch:
                raise
            except ImageError as error:  # a mirror may be behind, or broken
                faults.append(error)
                continue
            self._clients = [client, *clients]
            kept = partial(self._tags.keep, str(name.as_kept), self._resolved, is_fetched=True)
            return replace(found, remember=kept)
        raise _last(faults, "")

    def _top(self, client: "RegistryClient", name: ImageName) -> _Top:
        digest, media_type = name.digest, ""
        known = self._tags.digest(str(name))
        if not digest and known is not None and client.digest_of(name.tag) == known:
            digest = known  # a request that does not count where downloads are counted
        data = self._store.read(digest, MAX_DOCUMENT) if digest else None
        if data is None:
            document = client.manifest(name.target)
            data, media_type = document.data, document.media_type
            expected = name.digest or document.digest
            digest = expected or digests.of(data)
            if not digests.matches(data, digest):
                raise DigestMismatch(
                    f"{client.origin} answers with a manifest that is not {digests.short(digest)}",
                    hint="the registry, or something on the way to it, is broken",
                )
        descriptor = _descriptor(data, digest, media_type, name)
        self._store.add(digest, len(data), (data,))
        self._resolved = digest
        return _Top(descriptor=descriptor, read=lambda inner: self._document(client, inner))

    def _document(self, client: "RegistryClient", descriptor: Descriptor) -> bytes:
        def fetch() -> bytes:
            if descriptor.media_type in (*INDEX_TYPES, *MANIFEST_TYPES):
                return client.manifest(descriptor.digest).data
            return client.small_blob(descriptor.digest)

        return self._store.document(descriptor, str(client.origin), fetch)

    def _chosen(self, name: ImageName, top: _Top, wanted: Platform) -> Found:
        selected: Selected = select((top.descriptor,), wanted, top.read, str(name))
        what = f"manifest {digests.short(selected.descriptor.digest)}"
        self._name = name
        return Found(
            digest=selected.descriptor.digest,
            config=selected.config,
            layers=pair_layers(selected.manifest, selected.config, what),
            indexes=selected.indexes,
            name=name,
        )


def _descriptor(data: bytes, digest: str, media_type: str, name: ImageName) -> Descriptor:
    """What describes the document that a name leads to: nobody else does. Its own word counts before the registry's."""
    told = media_type_of(data, f"the manifest of {name}") or media_type
    if told in SCHEMA_1_TYPES or not told:
        told = OCI_MANIFEST  # whose parser says what it is instead
    return Descriptor(media_type=told, digest=digest, size=len(data))


def _last(faults: list[ImageError], hint: str) -> ImageError:
    """The last fault, with those before it in its hint."""
    last = faults[-1]
    told = [last.hint, *(f"before that: {fault}" for fault in faults[:-1][:3]), hint]
    last.hint = "; ".join(text for text in told if text)
    return last
