"""What propolis takes from this host, by what it is for, and what of it could be had back."""

import contextlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from propolis.host.directories import cache_directory, data_directory
from propolis.host.files import allocated
from propolis.image.stored import BlobState
from propolis.images.inventory import Inventory
from propolis.state.store import MachineStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One kind of things. Sizes are bytes as they are taken from the host; what is shared counts once."""

    kind: str
    total: int
    """How many there are."""
    active: int
    """How many of them machines and other commands use."""
    size: int
    reclaimable: int
    """Bytes that `image prune --all` would free; for machines, `doctor --fix`."""


def usage() -> list[Usage]:
    """What there is, by kind: images, layers' disks, blobs, what was begun or is damaged, machines, kernels.

    Images have no size of their own: they are made of the next two.

    Raises:
        DiskError: the cache cannot be read.
    """
    cache = cache_directory()
    inventory = Inventory.look(cache)
    leased = inventory.leased()
    blobs, disks = list(inventory.store.blobs()), inventory.layers.disks()
    whole = [(blob.digest, blob.size) for blob in blobs if blob.state is BlobState.WHOLE]
    partial = [(blob.digest, blob.size) for blob in blobs if blob.state is BlobState.PARTIAL]
    damaged = [blob.size for blob in blobs if blob.state is BlobState.DAMAGED]
    damaged += [disk.size for disk in disks if disk.is_damaged]
    damaged += map(_below, inventory.tags.damaged())
    images = {*(record.digest for record in inventory.records), *inventory.unnamed()}
    return [
        Usage(
            kind="images",
            total=len(images),
            active=sum(bool(inventory.users(digest)) for digest in images),
            size=0,
            reclaimable=0,
        ),
        _counted("layer disks", [(disk.diff_id, disk.size) for disk in disks if not disk.is_damaged], leased),
        _counted("blobs", whole, leased),
        _counted("partial blobs", partial, leased),
        _counted("records", [(record.digest, record.size) for record in inventory.store.records()], leased),
        Usage(kind="damaged", total=len(damaged), active=0, size=sum(damaged), reclaimable=sum(damaged)),
        _machines(),
        _rest(cache),
    ]


def _counted(kind: str, items: Collection[tuple[str, int]], leased: Collection[str]) -> Usage:
    used = [size for name, size in items if name in leased]
    total = sum(size for _, size in items)
    return Usage(kind=kind, total=len(items), active=len(used), size=total, reclaimable=total - sum(used))


def _machines() -> Usage:
    store = MachineStore(data_directory())
    records = store.list() if store.machines.parent.is_dir() else []
    living = {record.id for record in store.living()} if records else set()
    sizes = {record.id: _below(record.directory) for record in records}
    dead = sum(size for machine, size in sizes.items() if machine not in living)
    return Usage(kind="machines", total=len(records), active=len(living), size=sum(sizes.values()), reclaimable=dead)


def _rest(cache: Path) -> Usage:
    """Kernels with what boots them, and whatever else is kept."""
    kernels = cache / "kernels"
    others = [path for path in cache.glob("*") if path.name not in ("blobs", "layers", "leases", "collect.lock")]
    total = len(list(kernels.glob("*")))
    return Usage(kind="kernels", total=total, active=0, size=sum(map(_below, others)), reclaimable=0)


def _below(path: Path) -> int:
    files: Iterable[Path] = path.rglob("*") if path.is_dir() else (path,)
    size = 0
    for file in files:
        with contextlib.suppress(OSError):
            size += allocated(file) if file.is_file() and not file.is_symlink() else 0
    return size
