"""Everything that the cache holds of images, looked at once: names, blobs, disks, who uses them.

A snapshot: others may be adding and removing. Whoever removes by it holds `leases.collecting` meanwhile.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from propolis.disk.cache import CachedDisk, LayerCache
from propolis.errors import DiskError, ImageNotFound, InvalidArgument
from propolis.image import digest as digests
from propolis.image.document import MAX_DOCUMENT
from propolis.image.registry.name import ImageName, is_qualified, parse_name
from propolis.image.store import BlobStore
from propolis.image.stored import BlobState
from propolis.image.tags import TagRecord, TagRecords
from propolis.images.reach import Reach, follow
from propolis.state.leases import Held, collecting, held

_SHORTEST_ID = 4
_REGISTRY = "docker://"
"""What a name may begin with: `pull` prints it so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What a user's word for an image means."""

    digest: str
    records: tuple[TagRecord, ...]
    """All names of it that the word stands for: one for a name, all for an identifier, none for an unnamed image."""
    by_name: bool


@dataclass(slots=True)
class Inventory:
    """See the module; `leases` has to be asked for."""

    cache: Path
    leases: Sequence[Held] = ()
    records: Sequence[TagRecord] = ()
    _reaches: dict[str, Reach] = field(default_factory=dict)

    @classmethod
    def take(cls, cache: Path) -> "Inventory":
        """What is there now, with who uses it. To be called while `collecting`.

        Raises:
            DiskError: the host does not let something of it be read.
        """
        inventory = cls(cache, held(cache))
        inventory.records = inventory.tags.all()
        return inventory

    @classmethod
    def look(cls, cache: Path) -> "Inventory":
        """What is there now; in a cache that cannot be written to, where nobody like us collects, without its users.

        Raises:
            DiskError: the host does not let something of it be read.
        """
        if not cache.is_dir():
            return cls(cache)
        try:
            with collecting(cache):
                return cls.take(cache)
        except DiskError:
            inventory = cls(cache)
            inventory.records = inventory.tags.all()
            return inventory

    @property
    def store(self) -> BlobStore:
        """Where blobs are."""
        return BlobStore(self.cache / "blobs")

    @property
    def tags(self) -> TagRecords:
        """Where names are."""
        return TagRecords(self.store.tags)

    @property
    def layers(self) -> LayerCache:
        """Where disks are."""
        return LayerCache(self.cache / "layers")

    def reach(self, digest: str) -> Reach:
        """What `digest` leads to, read once."""
        if digest not in self._reaches:
            self._reaches[digest] = follow(self.store, digest)
        return self._reaches[digest]

    def unnamed(self) -> list[str]:
        """Images that are here with all of their layers, but without a name: loaded so, or it went to another.

        Neither what was only run from elsewhere, whose disks are a cache, nor what is still on its way.
        """
        named = self.named()
        found = [
            self.reach(blob.digest)
            for blob in self.store.blobs()
            if blob.state is BlobState.WHOLE and blob.size <= MAX_DOCUMENT and blob.digest not in named
        ]
        parts = set().union(*(reach.names - {reach.digest} for reach in found))
        return [
            reach.digest
            for reach in found
            if reach.digest not in parts and self._is_whole(reach) and not self._is_on_its_way(reach.digest)
        ]

    def named(self, records: Iterable[TagRecord] | None = None) -> set[str]:
        """Whatever belongs to images that have a name."""
        reached = [self.reach(record.digest).names for record in (self.records if records is None else records)]
        return set().union(*reached)

    def leased(self) -> set[str]:
        """Whatever processes said that they use."""
        return set().union(*(lease.names for lease in self.leases))

    @property
    def newer(self) -> float:
        """What was made from then on may belong to somebody who does not know yet what to name."""
        return min((lease.since for lease in self.leases if not lease.names), default=float("inf"))

    def users(self, digest: str) -> list[Held]:
        """The leases on an image."""
        manifests = {digest, *(variant.digest for variant in self.reach(digest).variants)}
        return [lease for lease in self.leases if lease.names & manifests]

    def machines(self, digest: str) -> tuple[str, ...]:
        """Names of the machines that use an image."""
        return tuple(sorted({lease.machine for lease in self.users(digest) if lease.machine}))

    def _is_whole(self, reach: Reach) -> bool:
        return any(all(self.store.has(layer.digest) for layer in variant.layers) for variant in reach.variants)

    def _is_on_its_way(self, digest: str) -> bool:
        users = self.users(digest)
        return bool(users) and not any(lease.machine for lease in users)

    def find(self, text: str) -> Match:
        """The image that is meant: by name, by digest of manifest or config, or by the beginning of one.

        Raises:
            ImageNotFound: there is none.
            InvalidArgument: it is no name, or several begin so.
        """
        text = bare(text)
        if digests.is_digest(text):
            return self._of_digest(text)
        try:
            names = _names(text)
        except InvalidArgument:
            names = ()
            if not _is_identifier(text):
                raise
        for name in names:
            for record in self.records:
                if _means(name, record):
                    return Match(digest=record.digest, records=(record,), by_name=True)
        if _is_identifier(text):
            return self._of_prefix(text)
        raise _absent(text)

    def find_whole(self, text: str) -> Match:
        """As `find`, but there has to be more of it than a name.

        Raises:
            ImageNotFound, InvalidArgument: as `find`.
        """
        match = self.find(text)
        if not self.reach(match.digest).variants:
            raise ImageNotFound(
                f"of {text[:200]} there is no more than its name here", hint="pull it, or load it again"
            )
        return match

    def _of_digest(self, digest: str) -> Match:
        found = {top for top, known in self._identifiers() if known == digest} or {digest}
        if len(found) > 1:
            raise InvalidArgument(f"{len(found)} images have {digests.short(digest)}", hint="name one of them")
        (top,) = found
        if not self.reach(top).variants:
            raise _absent(digest)
        return self._all_names(top)

    def _of_prefix(self, text: str) -> Match:
        value = text.partition(":")[2] or text
        found = {top for top, known in self._identifiers() if known.partition(":")[2].startswith(value)}
        if not found:
            raise _absent(text)
        if len(found) > 1:
            raise InvalidArgument(f"the digests of {len(found)} images begin with {text!r}", hint="write more of it")
        return self._all_names(found.pop())

    def _all_names(self, digest: str) -> Match:
        records = tuple(record for record in self.records if record.digest == digest)
        return Match(digest=digest, records=records, by_name=False)

    def _identifiers(self) -> Iterable[tuple[str, str]]:
        """Images, with each digest that may stand for them."""
        for top in {*(record.digest for record in self.records), *self.unnamed()}:
            yield top, top
            for variant in self.reach(top).variants:
                yield top, variant.digest
                yield top, variant.manifest.config.digest


@dataclass(slots=True)
class Sizes:
    """What images take from the host, by what belongs to them; one file counts once."""

    blobs: dict[str, int] = field(default_factory=Counter)
    disks: dict[str, list[CachedDisk]] = field(default_factory=dict)
    owners: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, inventory: Inventory) -> "Sizes":
        """Look at every file.

        Raises:
            DiskError: the host does not let a document be read.
        """
        sizes = cls()
        for blob in inventory.store.blobs():
            if blob.state is not BlobState.DAMAGED:
                sizes.blobs[blob.digest] += blob.size
        for disk in inventory.layers.disks():
            if not disk.is_damaged:
                sizes.disks.setdefault(disk.diff_id, []).append(disk)
        for digest in {*(record.digest for record in inventory.records), *inventory.unnamed()}:
            sizes.owners.update(inventory.reach(digest).names)
        return sizes

    def total(self, names: Iterable[str]) -> int:
        """Bytes of all that."""
        return sum(self.blobs.get(name, 0) + sum(disk.size for disk in self.disks.get(name, ())) for name in set(names))

    def unique(self, names: Iterable[str]) -> int:
        """Bytes of what of that belongs to at most one image."""
        return self.total(name for name in names if self.owners[name] <= 1)


def bare(text: str) -> str:
    """A name without what says that it is one."""
    return text.removeprefix(_REGISTRY)


def _means(name: ImageName, record: TagRecord) -> bool:
    if str(name.as_kept) == record.name:
        return True
    return bool(name.digest) and name.digest == record.digest and record.name.startswith(f"{name.place}:")


def _names(text: str) -> Sequence[ImageName]:
    if is_qualified(text):
        return (parse_name(text),)
    parse_name(text)  # before configuration is read for it
    from propolis.image.registry.files import read_configuration

    return (*read_configuration().candidates(text), parse_name(text))


def _is_identifier(text: str) -> bool:
    value = text.removeprefix("sha256:").removeprefix("sha512:")
    return len(value) >= _SHORTEST_ID and all(digit in "0123456789abcdef" for digit in value)


def _absent(text: str) -> ImageNotFound:
    return ImageNotFound(f"there is no image {text[:200]!r} on this host", hint="see `propolis images`")
