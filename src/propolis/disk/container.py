"""The container around a disk's bytes: what is added behind a raw file."""

import os

from propolis.disk import vhd
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


def seal(descriptor: int, disk_format: DiskFormat, key: str) -> None:
    """Make the raw disk in `descriptor` one of `disk_format`; a no-op for raw."""
    if disk_format is DiskFormat.VHD:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        os.write(descriptor, vhd.footer(size, key))


def overhead(disk_format: DiskFormat) -> int:
    """By how many bytes a file of that format is longer than the disk in it."""
    return vhd.SECTOR if disk_format is DiskFormat.VHD else 0
