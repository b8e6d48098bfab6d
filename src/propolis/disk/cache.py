"""Layer disks, kept by what they are made from: diff_id, version of the writer, container.

A layer that leans on those below it (`below` says when) is kept by their diff_ids too.

A disk is written beside its place and renamed, so half of one never counts. Two processes that want the same layer
make it once: the second waits, and goes on by itself where the layer leans and its own stack is another. A disk whose
superblock is broken, or whose length is not what that says, is put aside and made again; the latest that were put aside
are kept for whoever wants to know why.
"""

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from propolis.disk import container
from propolis.disk.ext4.structs import BLOCK_SIZE
from propolis.disk.ext4.superblock import recorded_size
from propolis.errors import DiskDamaged, DiskError, InvalidArgument
from propolis.host import system
from propolis.host.files import allocated, locked, remove_lock, stage, sweep
from propolis.spec import DiskFormat
from propolis.tree import TreeSink

WRITER_VERSION = 3
"""Part of every disk's name: raise it when the same entries give other bytes."""
_DAMAGED = "damaged-"
_KEPT_DAMAGED = 3
_DIFF_ID = re.compile(r"[a-z0-9]+:[0-9a-f]{64,128}")
_NAME = re.compile(
    rf"(?P<damaged>{_DAMAGED})?(?P<algorithm>[a-z0-9]+)-(?P<value>[0-9a-f]{{64,128}})(?:\.on-(?P<chain>[0-9a-f]{{64}}))?"
    rf"\.(?P<version>[0-9]{{1,6}})\.(?P<format>{'|'.join(DiskFormat)})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedDisk:
    """One file of the cache."""

    path: Path
    diff_id: str
    chain: str
    """What names the stack that it leans on, in hexadecimal; empty for a disk that leans on nothing."""
    format: DiskFormat
    size: int
    """Bytes as they are taken from the host, holes not counted."""
    made: float
    """When, in seconds since the epoch."""
    is_current: bool
    """Whether the writer would make the same today."""
    is_damaged: bool
    """Whether it was put aside."""


class LayerCache:
    """The layer disks below one directory. Safe for any number of threads and processes."""

    def __init__(self, directory: Path) -> None:
        """Use `directory`, which need not exist yet."""
        self._directory = directory

    def disk(
        self,
        diff_ids: Sequence[str],
        disk_format: DiskFormat,
        fill: Callable[[TreeSink], None],
        lower: Callable[[], Sequence[Path]] = tuple,
    ) -> Path:
        """The read-only disk of the last layer of `diff_ids`, which are those of an image from its bottom up to it.

        Made, if need be, with `fill`, which pushes the layer's tree. `lower` gives the disks of the layers below,
        bottom first; it is asked only if the layer turns out to depend on them.

        Raises:
            InvalidArgument: no diff_id.
            LayerUnsupported, ImageInvalid: the tree cannot become a disk; the message names layer and entry.
            StorageFull: no room on the host.
            Whatever `fill` and `lower` raise. Nothing is left of a disk that was not finished.
        """
        if not diff_ids or not all(map(_DIFF_ID.fullmatch, diff_ids)):
            raise InvalidArgument(f"{str(diff_ids)[:100]} are not diff_ids")
        alone = self._path(diff_ids[-1], disk_format)
        # named as the image specification names a stack of layers: by what identifies all of it
        chain = hashlib.sha256(" ".join(diff_ids).encode()).hexdigest()
        in_chain = self._path(f"{diff_ids[-1]}.on-{chain}", disk_format)
        found = None
        with contextlib.suppress(PermissionError):  # on Windows, while it gets its name; with the lock it has it
            found = _first_whole(alone, in_chain)
        if found is not None:
            return found
        with locked(_lock(in_chain)), contextlib.ExitStack() as for_all_stacks:
            for_all_stacks.enter_context(locked(_lock(alone)))
            sweep(self._directory)
            found = _first_whole(alone, in_chain)
            if found is not None:
                return found
            from propolis.disk.layer import write_layer  # no start from cached disks needs it

            def push(sink: TreeSink) -> str:
                fill(sink)
                return diff_ids[-1]

            def below() -> Sequence[Path]:
                # it is a disk of this stack alone. And who waits for layers holds no lock but those of stacks, each of
                # which waits for lower ones only: two stacks with their layers in another order cannot wait in a circle
                for_all_stacks.close()
                return lower()

            with self._damage_put_aside(), stage(alone) as staged:
                written = write_layer(staged.descriptor, disk_format, f"layer {diff_ids[-1]}", push, below)
                if written.leans:
                    staged.target = in_chain
                _put_aside(staged.target)
            # only now: what a killed writer leaves must be open to whoever sweeps
            system.protect(staged.target)
            return staged.target

    def disks(self) -> list[CachedDisk]:
        """What is there, also of other versions. Others may be adding to it, or removing, at the same time."""
        found = []
        for path in sorted(self._directory.glob("*.*")):
            if (name := _NAME.fullmatch(path.name)) is not None:
                with contextlib.suppress(FileNotFoundError):
                    found.append(
                        CachedDisk(
                            path=path,
                            diff_id=f"{name['algorithm']}:{name['value']}",
                            chain=name["chain"] or "",
                            format=DiskFormat(name["format"]),
                            size=allocated(path),
                            made=path.stat().st_mtime,
                            is_current=int(name["version"]) == WRITER_VERSION,
                            is_damaged=bool(name["damaged"]),
                        )
                    )
        return found

    def sweep(self) -> int:
        """Remove what killed writers left, and locks that nobody holds; returns how many of the former."""
        for lock in self._directory.glob("*.lock"):
            remove_lock(lock)
        return sweep(self._directory)

    def put_aside(self, path: Path) -> None:
        """Take a disk that turned out to be damaged out of use; the next call of `disk` makes it anew.

        Machines that run from it keep it open on POSIX systems. Nothing happens if it is gone.
        """
        with contextlib.suppress(FileNotFoundError):
            _put_aside(path)

    @contextlib.contextmanager
    def _damage_put_aside(self) -> Iterator[None]:
        try:
            yield
        except DiskDamaged as error:
            if error.path.parent == self._directory:
                self.put_aside(error.path)
                error.hint = "it was put aside; try again, and it will be made anew"
            raise

    def _path(self, identity: str, disk_format: DiskFormat) -> Path:
        return self._directory / f"{identity.replace(':', '-')}.{WRITER_VERSION}.{disk_format}"


def _lock(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _first_whole(alone: Path, in_chain: Path) -> Path | None:
    return next((path for path in (alone, in_chain) if _is_whole(path)), None)


def _put_aside(path: Path) -> None:
    """What is there is damaged, or it would have been used."""
    if not path.exists():
        return
    path.replace(path.with_name(f"{_DAMAGED}{path.name}"))
    put_aside = sorted(path.parent.glob(f"{_DAMAGED}*"), key=lambda found: found.stat().st_ctime_ns)
    for old in put_aside[:-_KEPT_DAMAGED]:
        old.unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    """Whether the disk is there, and as long as its own superblock says."""
    try:
        with contextlib.closing(container.open_disk(path)) as disk:
            size = recorded_size(disk.read(0, min(BLOCK_SIZE, disk.size)))
            return size is not None and disk.size == container.size_in(container.format_of(path), size)
    except (FileNotFoundError, DiskError):
        return False
