"""What nobody names and nobody uses is removed: `prune` looks at everything, `remove` at one image.

Roots are names (`image.tags`) and leases (`state.leases`). What has to go is given another name while no lease can be
made, which takes no time, and removed afterwards. Names go before what they lead to, so whatever instant this is killed
at, what is left is whole or counts as absent, and the next collection goes on with it.
"""

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from propolis.errors import BackendUnavailable, ImageInUse, InvalidArgument
from propolis.host.directories import cache_directory
from propolis.host.files import allocated, retire
from propolis.hypervisor import registry
from propolis.image import partial
from propolis.image.stored import BlobState, StoredBlob
from propolis.image.tags import TagRecord
from propolis.images.inventory import Inventory, Match
from propolis.spec import DiskFormat
from propolis.state.leases import Held, collecting


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """One file that is gone."""

    kind: str
    """`blob`, `disk`, `partial` (a blob that was begun), `record` (something known of one) or `damaged`."""
    name: str
    """The digest, or diff_id, of what it was; the file's name where nothing tells that."""
    size: int
    """Bytes that it took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection did, or would do."""

    untagged: tuple[str, ...] = ()
    removed: tuple[Removed, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that are free now."""
        return sum(item.size for item in self.removed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Victim:
    path: Path
    removed: Removed


def prune(*, all: bool = False, blobs: bool = False, dry_run: bool = False) -> Collected:
    """Remove what no image with a name is made of and nothing uses, and what is damaged or was left half done.

    Args:
        all: also images with a name that no machine uses.
        blobs: also layers as they came, where their disks are made and a registry has them.
        dry_run: only tell.

    Raises:
        StorageFull, DiskError: the cache cannot be read or written to.
    """
    cache, wanted = cache_directory(), _wanted_formats()
    with collecting(cache):
        inventory = Inventory.take(cache)
        gone = _unused(inventory) if all else []
        kept = [record for record in inventory.records if record not in gone]
        victims = list(_garbage(inventory, kept, wanted))
        if blobs:
            victims += _fetched_blobs(inventory, kept, wanted)
        if dry_run:
            return Collected(untagged=_names(gone), removed=tuple(victim.removed for victim in victims))
        for record in gone:
            inventory.tags.remove(record.name)
        removed = _retired(victims)
    _sweep(inventory)
    return Collected(untagged=_names(gone), removed=removed)


def remove(name: str, *, force: bool = False) -> Collected:
    """Take a name from an image; with its last name go the parts of it that nothing else is made of.

    Args:
        name: a name, or a digest or the beginning of one, which stands for all names of the image.
        force: take the name from an image that is in use, whose parts stay until they are collected; take all names.

    Raises:
        ImageNotFound: there is no such image.
        ImageInUse: a machine uses it; the message says which.
        InvalidArgument: it is no name, or several images begin so, or it stands for several names.
        StorageFull, DiskError: the cache cannot be read or written to.
    """
    cache = cache_directory()
    with collecting(cache):
        inventory = Inventory.take(cache)
        match = inventory.find(name)
        kept = [record for record in inventory.records if record not in match.records]
        if not force:
            _check_removable(inventory, name, match, kept)
        victims: list[_Victim] = []
        if all(record.digest != match.digest for record in kept):
            within = inventory.reach(match.digest).names
            victims = list(_garbage(inventory, kept, tuple(DiskFormat), within))
        for record in match.records:
            inventory.tags.remove(record.name)
        removed = _retired(victims)
    _sweep(inventory)
    return Collected(untagged=_names(match.records), removed=removed)


def _check_removable(inventory: Inventory, name: str, match: Match, kept: Collection[TagRecord]) -> None:
    if not match.by_name and len(match.records) > 1:
        raise InvalidArgument(
            f"{name[:200]!r} has {len(match.records)} names: {', '.join(_names(match.records)[:4])}",
            hint="remove them by name, or all at once with -f",
        )
    users = inventory.users(match.digest)
    if users and all(record.digest != match.digest for record in kept):
        raise _in_use(name, users)


def _in_use(name: str, users: Collection[Held]) -> ImageInUse:
    machines = sorted({lease.machine for lease in users if lease.machine})
    if not machines:
        return ImageInUse(f"{name[:200]} is being pulled, loaded or saved", hint="wait until that is done")
    return ImageInUse(
        f"{name[:200]} is in use by {', '.join(machines[:4])}",
        hint=f"`propolis stop {machines[0]}` first; with -f only the name goes, and the rest can be pruned later",
    )


def _unused(inventory: Inventory) -> list[TagRecord]:
    """Names of images that nothing uses, or is about to."""
    newer = inventory.newer
    return [record for record in inventory.records if record.used < newer and not inventory.users(record.digest)]


def _garbage(
    inventory: Inventory,
    kept: Collection[TagRecord],
    wanted: Collection[DiskFormat],
    within: Collection[str] | None = None,
) -> Iterator[_Victim]:
    """Files that neither the names `kept` nor a lease lead to; only those that belong to `within`, if it is given."""
    leased, newer = inventory.leased(), inventory.newer
    needed = inventory.named(kept) | leased
    if within is None:
        for path in inventory.tags.damaged():
            with contextlib.suppress(FileNotFoundError):
                yield _Victim(path=path, removed=Removed(kind="damaged", name=path.name, size=allocated(path)))
    for blob in inventory.store.blobs():
        mine = within is None or blob.digest in within
        if mine and (blob.state is BlobState.DAMAGED or (blob.digest not in needed and blob.made < newer)):
            yield _victim(blob)
    for record in inventory.store.records():
        mine = within is None or record.digest in within
        if mine and record.digest not in needed and record.made < newer:
            yield _Victim(path=record.path, removed=Removed(kind="record", name=record.digest, size=record.size))
    for disk in inventory.layers.disks():
        lives = disk.diff_id in leased or (disk.diff_id in needed and disk.is_current and disk.format in wanted)
        mine = within is None or disk.diff_id in within
        if mine and (disk.is_damaged or (not lives and disk.made < newer)):
            kind = "damaged" if disk.is_damaged else "disk"
            yield _Victim(path=disk.path, removed=Removed(kind=kind, name=disk.diff_id, size=disk.size))


def _fetched_blobs(
    inventory: Inventory, kept: Collection[TagRecord], wanted: Collection[DiskFormat]
) -> Iterator[_Victim]:
    """Layers' blobs that can be had again, and are not needed as long as their disks are whole."""
    only_here = inventory.named(record for record in kept if not record.is_fetched) | inventory.leased()
    disks = {disk.diff_id for disk in inventory.layers.disks() if disk.is_current and disk.format in wanted}
    made = {
        layer.digest
        for record in kept
        for variant in inventory.reach(record.digest).variants
        for layer in variant.layers
        if layer.diff_id in disks
    }
    for blob in inventory.store.blobs():
        if blob.digest in made and blob.digest not in only_here and blob.state is BlobState.WHOLE:
            yield _victim(blob)


def _victim(blob: StoredBlob) -> _Victim:
    kinds = {BlobState.WHOLE: "blob", BlobState.PARTIAL: "partial", BlobState.DAMAGED: "damaged"}
    return _Victim(path=blob.path, removed=Removed(kind=kinds[blob.state], name=blob.digest, size=blob.size))


def _retired(victims: Collection[_Victim]) -> tuple[Removed, ...]:
    """Take them out of use; what somebody has open where that matters, or is still adding to, stays."""
    removed = []
    for victim in victims:
        try:
            is_partial = victim.removed.kind == "partial"
            went = partial.remove(victim.path) if is_partial else retire(victim.path) is not None
        except OSError:
            continue
        if went:
            removed.append(victim.removed)
    return tuple(removed)


def _sweep(inventory: Inventory) -> None:
    """Remove what was taken out of use, now that nobody has to wait for it, and what killed processes left."""
    inventory.store.sweep()
    inventory.layers.sweep()


def _wanted_formats() -> Collection[DiskFormat]:
    """What the hypervisors that can be used here take; all formats where none can be."""
    found = set()
    for name in registry.names():
        with contextlib.suppress(BackendUnavailable):
            backend = registry.create(name)
            if backend.availability().usable:
                found.add(backend.capabilities.disk_formats[0])
    return found or set(DiskFormat)


def _names(records: Collection[TagRecord]) -> tuple[str, ...]:
    return tuple(record.name for record in records)
