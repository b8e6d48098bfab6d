"""The container around a disk's bytes, chosen by its format when writing and by its bytes when reading."""

from pathlib import Path

from propolis.disk import vhd
from propolis.disk.base import DiskReader, DiskWriter
from propolis.disk.raw import RawReader, RawWriter
from propolis.errors import InvalidArgument
from propolis.spec import DiskFormat

WRITABLE_FORMATS = (DiskFormat.RAW, DiskFormat.VHD)
"""The containers that can be written."""


def check(disk_format: DiskFormat) -> None:
    """Refuse a container that cannot be written, before any work.

    Raises:
        InvalidArgument: it cannot be written.
    """
    if disk_format not in WRITABLE_FORMATS:
        raise InvalidArgument(f"{disk_format} disks cannot be written", hint=f"choose {' or '.join(WRITABLE_FORMATS)}")


def create(descriptor: int, disk_format: DiskFormat) -> DiskWriter:
    """Make the empty file `descriptor` a disk in that container."""
    if disk_format is DiskFormat.VHD:
        return vhd.VhdWriter(descriptor)
    return RawWriter(descriptor)


def open_disk(path: Path) -> DiskReader:
    """Open the disk in that file, whatever its container.

    Raises:
        DiskError: the container is damaged.
        OSError: the file cannot be read.
    """
    return RawReader(path, vhd.disk_size(path))
