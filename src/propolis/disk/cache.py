"""Layer disks, kept by what they are made from: diff_id, version of the writer, container.

A disk is written beside its place and renamed, so half of one never counts. Two processes that want the same layer
make it once: the second waits. A disk whose length is not what its superblock says is put aside and made again.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

from propolis.disk import container
from propolis.disk.ext4.metadata import recorded_size
from propolis.disk.ext4.structs import BLOCK_SIZE
from propolis.disk.ext4.writer import WRITER_VERSION, LayerWriter
from propolis.errors import InvalidArgument
from propolis.host.files import locked, stage, sweep
from propolis.spec import DiskFormat
from propolis.tree import TreeSink

_DIFF_ID = re.compile(r"[a-z0-9]+:[0-9a-f]{64,128}")


class LayerCache:
    """The layer disks below one directory. Safe for any number of threads and processes."""

    def __init__(self, directory: Path) -> None:
        """Use `directory`, which need not exist yet."""
        self._directory = directory

    def disk(self, diff_id: str, disk_format: DiskFormat, fill: Callable[[TreeSink], None]) -> Path:
        """The read-only disk of the layer `diff_id`; made with `fill`, which pushes the layer's tree, if need be.

        Raises:
            InvalidArgument: no diff_id, or a container that cannot be written.
            LayerUnsupported, ImageInvalid: the tree cannot become a disk; the message names layer and entry.
            StorageFull: no room on the host.
            Whatever `fill` raises. Nothing is left of a disk that was not finished.
        """
        if not _DIFF_ID.fullmatch(diff_id):
            raise InvalidArgument(f"{diff_id[:100]!r} is not a diff_id")
        container.check(disk_format)
        path = self._directory / f"{diff_id.replace(':', '-')}.{WRITER_VERSION}.{disk_format}"
        if _is_whole(path, disk_format):
            return path
        with locked(path.with_name(f"{path.name}.lock")):
            sweep(self._directory)
            if not _is_whole(path, disk_format):
                self._make(path, diff_id, disk_format, fill)
        return path

    def _make(self, path: Path, diff_id: str, disk_format: DiskFormat, fill: Callable[[TreeSink], None]) -> None:
        if path.exists():
            path.replace(path.with_name(f"damaged-{path.name}"))
        with stage(path, mode=0o444) as staged:
            writer = LayerWriter(staged.descriptor, key=diff_id, what=f"layer {diff_id}")
            fill(writer)
            writer.finish()
            container.seal(staged.descriptor, disk_format, diff_id)


def _is_whole(path: Path, disk_format: DiskFormat) -> bool:
    """Whether the disk is there, and as long as its own superblock says."""
    try:
        with path.open("rb") as file:
            size = recorded_size(file.read(BLOCK_SIZE))
            return size is not None and os.fstat(file.fileno()).st_size == size + container.overhead(disk_format)
    except FileNotFoundError:
        return False
