"""The container around a disk's bytes, chosen by its format when writing and by its bytes when reading.

VHDX is imported where it is met: most starts have no such disk.
"""

import contextlib
from pathlib import Path

from propolis.disk import c_vhdx, vhd
from propolis.disk.base import DiskReader, DiskWriter
from propolis.disk.raw import RawReader, RawWriter
from propolis.spec import DiskFormat


def create(descriptor: int, disk_format: DiskFormat) -> DiskWriter:
    """Make the empty file `descriptor` a disk in that container."""
    if disk_format is DiskFormat.VHD:
        return vhd.VhdWriter(descriptor)
    if disk_format is DiskFormat.VHDX:
        from propolis.disk.vhdx import VhdxWriter

        return VhdxWriter(descriptor)
    return RawWriter(descriptor)


def open_disk(path: Path) -> DiskReader:
    """Open the disk in that file, whatever its container.

    Raises:
        DiskError: the container is damaged.
        OSError: the file cannot be read.
    """
    found = format_of(path)
    if found is DiskFormat.VHDX:
        from propolis.disk.vhdx_reader import VhdxReader

        return VhdxReader(path)
    return RawReader(path, vhd.disk_size(path) if found is DiskFormat.VHD else None)


def format_of(path: Path) -> DiskFormat:
    """What the file's own bytes say it is; raw is whatever says nothing.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(c_vhdx.FILE_TYPE_SIGNATURE)) == c_vhdx.FILE_TYPE_SIGNATURE:
            return DiskFormat.VHDX
    return DiskFormat.RAW if vhd.disk_size(path) is None else DiskFormat.VHD


def size_in(disk_format: DiskFormat, size: int) -> int:
    """Bytes that a disk of `size` bytes has in that container, where it may be a little larger."""
    if disk_format is not DiskFormat.VHDX:
        return size
    from propolis.disk.vhdx import rounded

    return rounded(size)


def faults(path: Path) -> list[str]:
    """What is wrong with the container around a disk; the disk itself is not looked at.

    Raises:
        DiskError: the container is so damaged, or of such a kind, that it cannot be opened.
        OSError: the file cannot be read.
    """
    found = format_of(path)
    if found is DiskFormat.VHDX:
        from propolis.disk.vhdx_reader import VhdxReader

        with contextlib.closing(VhdxReader(path)) as reader:
            return reader.faults()
    return vhd.faults(path) if found is DiskFormat.VHD else []
