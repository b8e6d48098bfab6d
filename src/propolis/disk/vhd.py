"""A raw disk becomes a fixed VHD: its bytes, then a footer of one sector. Follows `c_vhd`.

Deterministic: no time stamp, and the identifier comes from a key.
"""

import hashlib
import os
from pathlib import Path

from propolis.disk import c_vhd
from propolis.disk.raw import RawWriter
from propolis.errors import InvalidArgument

SECTOR = 512
MOST_SIZE = 2040 << 30
"""Bytes, as Windows has it."""


class VhdWriter(RawWriter):
    """A raw disk that gets its footer at the end; see `base.DiskWriter`."""

    def finish(self, size: int, key: str) -> None:
        """See `DiskWriter.finish`.

        Raises:
            InvalidArgument: a VHD cannot be that large.
        """
        if size > MOST_SIZE:
            raise InvalidArgument(
                f"a VHD holds at most {MOST_SIZE >> 30} GiB, not {size >> 30}", hint="choose vhdx, or a smaller size"
            )
        super().finish(size, key)
        self.write(size, [memoryview(footer(size, key))])


def disk_size(path: Path) -> int | None:
    """Bytes of the disk in a fixed VHD; None for a file without a VHD's footer."""
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        file.seek(max(0, length - SECTOR))
        last = file.read(SECTOR)
    return length - SECTOR if len(last) == SECTOR and last.startswith(c_vhd.COOKIE) else None


def faults(path: Path) -> list[str]:
    """What is wrong with the footer of a fixed VHD."""
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        file.seek(length - SECTOR)
        last = file.read(SECTOR)
    fields = c_vhd.footer.unpack(last)
    found = []
    if fields[14] != ~sum(last[: c_vhd.CHECKSUM_OFFSET] + last[c_vhd.CHECKSUM_OFFSET + 4 :]) & 0xFFFFFFFF:
        found.append("the footer has a wrong checksum")
    if fields[1] & c_vhd.FEATURES_RESERVED == 0 or fields[2] != c_vhd.FILE_FORMAT_VERSION:
        found.append("the footer is of an unknown version")
    if fields[13] != c_vhd.DISK_TYPE_FIXED:
        found.append(f"the disk is of type {fields[13]}, not fixed")
    if fields[9] != length - SECTOR:
        found.append(f"the footer tells of {fields[9]} bytes, but {length - SECTOR} are there")
    return found


def footer(size: int, key: str) -> bytes:
    """The footer of a disk of `size` bytes, a multiple of 512; `key` tells it from other disks."""
    cylinders, heads, sectors = geometry(size)
    unique = hashlib.sha256(b"propolis vhd " + key.encode()).digest()[:16]
    data = bytearray(
        c_vhd.footer.pack(
            c_vhd.COOKIE, c_vhd.FEATURES_RESERVED, c_vhd.FILE_FORMAT_VERSION, c_vhd.NO_DATA_OFFSET, 0,
            c_vhd.CREATOR_APPLICATION, c_vhd.CREATOR_VERSION, c_vhd.CREATOR_HOST_OS, size, size,
            cylinders, heads, sectors, c_vhd.DISK_TYPE_FIXED, 0, unique, 0,
        )
    )  # fmt: skip
    checksum = ~sum(data) & 0xFFFFFFFF
    data[c_vhd.CHECKSUM_OFFSET : c_vhd.CHECKSUM_OFFSET + 4] = checksum.to_bytes(4, "big")
    return bytes(data)


def geometry(size: int) -> tuple[int, int, int]:
    """Cylinders, heads and sectors per track, by the specification's algorithm; it rounds down."""
    total = min(size // SECTOR, c_vhd.MOST_SECTORS)
    if total >= 65535 * 16 * 63:
        heads, sectors = 16, 255
    else:
        sectors = 17
        heads = max(4, -(-(total // sectors) // 1024))
        if total // sectors >= heads * 1024 or heads > 16:
            sectors, heads = 31, 16
        if total // sectors >= heads * 1024:
            sectors, heads = 63, 16
    return total // sectors // heads, heads, sectors
