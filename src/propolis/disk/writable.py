"""The writable disk of one machine: empty but for what overlayfs and the guest's init need.

Made in milliseconds whatever its size, as nearly all of it is hole. Usually without a journal: it goes when its machine
goes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from propolis.disk import container
from propolis.disk.below import root_directory
from propolis.disk.ext4.node import Node
from propolis.disk.ext4.structs import S_IFDIR
from propolis.disk.ext4.writer import write_writable
from propolis.errors import InvalidArgument
from propolis.host.files import stage
from propolis.spec import DiskFormat

DEFAULT_SIZE = 8 << 30
LEAST_SIZE, MOST_SIZE = 16 << 20, 2040 << 30
"""Bytes; the most is what a VHD can have."""


def make_writable(
    path: Path,
    disk_format: DiskFormat,
    files: Mapping[str, bytes],
    *,
    layers: Sequence[Path] = (),
    size: int = DEFAULT_SIZE,
    journal: bool = False,
) -> None:
    """Make a disk of about `size` bytes at `path` with `upper/`, `work/` and `files` (name to content) in its root.

    `upper/` has the attributes of the root that `layers` (bottom first) show, as overlayfs takes the root's from it.

    Raises:
        InvalidArgument: a size out of range, or files that it has no room for.
        StorageFull: no room on the host.
    """
    if not LEAST_SIZE <= size <= MOST_SIZE:
        raise InvalidArgument(
            f"a writable disk of {size} bytes cannot be made",
            hint=f"choose a size from {LEAST_SIZE >> 20} MiB to {MOST_SIZE >> 30} GiB",
        )
    if sum(map(len, files.values())) > LEAST_SIZE // 2:
        raise InvalidArgument(f"the files for a writable disk are more than {LEAST_SIZE >> 21} MiB")
    with stage(path, mode=0o600, durable=False) as staged:
        write_writable(
            container.create(staged.descriptor, disk_format),
            size=size,
            key=str(path),
            directories={b"upper": root_directory(layers), b"work": Node(S_IFDIR | 0o700)},
            files={name.encode(): data for name, data in files.items()},
            journal=journal,
        )
