"""A disk becomes a dynamic VHDX: blocks are given out in the order in which they are first written. Follows `c_vhdx`.

Deterministic: no time stamp, and identifiers come from a key. Blocks that were never written are said to be zero
(PAYLOAD_BLOCK_ZERO): of absent ones the specification promises nothing. The file is never made sparse on NTFS, which
Hyper-V would refuse; nothing is skipped in it but on hosts where holes cost nothing.
"""

import hashlib
import os
from collections.abc import Sequence
from struct import pack

from propolis.disk import c_vhdx
from propolis.disk.c_vhdx import MIB
from propolis.disk.checksum import INITIAL, crc32c
from propolis.disk.raw import write_views
from propolis.errors import InvalidArgument

DEFAULT_BLOCK_SIZE = MIB
"""Larger blocks are no faster to write, and a small disk gets larger by what its last block does not fill."""
LOGICAL_SECTOR, PHYSICAL_SECTOR = 512, 4096
_CREATOR = "propolis"
_LOG, _METADATA, _BAT, _PAYLOAD = (number * MIB for number in range(1, 5))
"""Where the regions begin in the file. A BAT of more than a MiB lies behind the payload."""
_LOG_SIZE = _METADATA_SIZE = MIB


class VhdxWriter:
    """Writes to an empty file; see `base.DiskWriter`. Not for use by several threads."""

    def __init__(self, descriptor: int, block_size: int = DEFAULT_BLOCK_SIZE) -> None:
        """Blocks have `block_size` bytes, a power of two from 1 to 256 MiB.

        Raises:
            InvalidArgument: blocks cannot have that size.
        """
        if not MIB <= block_size <= c_vhdx.MOST_BLOCK_SIZE or block_size & block_size - 1:
            raise InvalidArgument(f"a VHDX cannot have blocks of {block_size} bytes")
        self._descriptor = descriptor
        self._block_size = block_size
        self._places: dict[int, int] = {}
        """Offset in the file of each block that was written, by its number."""
        self._end = _PAYLOAD
        self._position = os.lseek(descriptor, 0, os.SEEK_CUR)

    def write(self, offset: int, views: Sequence[memoryview]) -> None:
        """See `DiskWriter.write`."""
        length = sum(map(len, views))
        runs = self._runs(offset, length)
        if len(runs) == 1:
            self._write(runs[0][0], views)
            return
        for (place, _), part in zip(runs, _parted(views, [size for _, size in runs]), strict=True):
            self._write(place, part)

    def _write(self, place: int, views: Sequence[memoryview]) -> None:
        if place != self._position:
            os.lseek(self._descriptor, place, os.SEEK_SET)
        self._position = place + write_views(self._descriptor, views)

    def _runs(self, offset: int, length: int) -> list[tuple[int, int]]:
        """Where these bytes of the disk lie in the file: offset and length of each piece."""
        runs: list[tuple[int, int]] = []
        while length:
            number, within = divmod(offset, self._block_size)
            size = min(length, self._block_size - within)
            place = self._place(number) + within
            if runs and sum(runs[-1]) == place:
                runs[-1] = (runs[-1][0], runs[-1][1] + size)
            else:
                runs.append((place, size))
            offset += size
            length -= size
        return runs

    def _place(self, number: int) -> int:
        place = self._places.get(number)
        if place is None:
            place = self._places[number] = self._end
            self._end += self._block_size
        return place

    def finish(self, size: int, key: str) -> None:
        """See `DiskWriter.finish`. The disk in the container is rounded up to whole MiB, as Windows' own tools do.

        Raises:
            InvalidArgument: a VHDX cannot be that large.
        """
        virtual = rounded(size)
        if not 0 < virtual <= c_vhdx.MOST_VIRTUAL_SIZE:
            raise InvalidArgument(f"a VHDX holds 1 MiB to {c_vhdx.MOST_VIRTUAL_SIZE >> 40} TiB, not {size} bytes")
        bat = _bat(virtual, self._block_size, self._places)
        bat_size = -(-len(bat) // MIB) * MIB
        bat_at = _BAT if bat_size == MIB else self._end
        end = max(self._end, bat_at + bat_size)
        # the last block is whole in the file even where the disk ends in it
        os.ftruncate(self._descriptor, end)
        self._write(bat_at, [memoryview(bat)])
        self._write(_METADATA, [memoryview(_metadata(virtual, self._block_size, _identifier(key, "disk")))])
        regions = region_table(((c_vhdx.BAT_REGION, bat_at, bat_size), (c_vhdx.METADATA_REGION, _METADATA, MIB)))
        for offset in c_vhdx.REGION_TABLE_OFFSETS:
            self._write(offset, [memoryview(regions)])
        for sequence, offset in enumerate(c_vhdx.HEADER_OFFSETS, 1):
            head = header(sequence, _identifier(key, "file write"), _identifier(key, "data write"))
            self._write(offset, [memoryview(head)])
        self._write(0, [memoryview(c_vhdx.FILE_TYPE_SIGNATURE + _CREATOR.encode("utf-16le"))])


def rounded(size: int) -> int:
    """Bytes that a disk of `size` bytes has in a VHDX."""
    return -(-size // MIB) * MIB


def header(sequence: int, file_write: bytes, data_write: bytes) -> bytes:
    """One of the two headers: an empty log, and that sequence number."""
    head = c_vhdx.header.pack(
        c_vhdx.HEADER_SIGNATURE, 0, sequence, file_write, data_write, bytes(16),
        0, c_vhdx.HEADER_VERSION, _LOG_SIZE, _LOG,
    )  # fmt: skip
    return _with_checksum(head.ljust(c_vhdx.HEADER_SIZE, b"\0"))


def region_table(regions: Sequence[tuple[bytes, int, int]]) -> bytes:
    """The table of regions: identifier, offset and length of each; all are required."""
    table = c_vhdx.region_table.pack(c_vhdx.REGION_TABLE_SIGNATURE, 0, len(regions), 0)
    table += b"".join(c_vhdx.region_entry.pack(*region, 1) for region in regions)
    return _with_checksum(table.ljust(c_vhdx.REGION_TABLE_SIZE, b"\0"))


def _metadata(size: int, block_size: int, disk_id: bytes) -> bytes:
    """The metadata region's used part: its table, and the items behind it."""
    disk = c_vhdx.IS_VIRTUAL_DISK | c_vhdx.IS_REQUIRED
    items = (
        (c_vhdx.FILE_PARAMETERS, c_vhdx.file_parameters.pack(block_size, 0), c_vhdx.IS_REQUIRED),
        (c_vhdx.VIRTUAL_DISK_SIZE, c_vhdx.u64.pack(size), disk),
        (c_vhdx.VIRTUAL_DISK_ID, disk_id, disk),
        (c_vhdx.LOGICAL_SECTOR_SIZE, c_vhdx.u32.pack(LOGICAL_SECTOR), disk),
        (c_vhdx.PHYSICAL_SECTOR_SIZE, c_vhdx.u32.pack(PHYSICAL_SECTOR), disk),
    )
    table = c_vhdx.metadata_table.pack(c_vhdx.METADATA_SIGNATURE, 0, len(items))
    values = b""
    for item, value, flags in items:
        table += c_vhdx.metadata_entry.pack(item, c_vhdx.METADATA_TABLE_SIZE + len(values), len(value), flags, 0)
        values += value
    return table.ljust(c_vhdx.METADATA_TABLE_SIZE, b"\0") + values


def _bat(size: int, block_size: int, places: dict[int, int]) -> bytes:
    """The block allocation table: a state and a place for each payload block, with room for bitmaps among them."""
    blocks = -(-size // block_size)
    ratio = c_vhdx.chunk_ratio(LOGICAL_SECTOR, block_size)
    table = bytearray(pack("<Q", c_vhdx.PAYLOAD_BLOCK_ZERO) * (blocks + (blocks - 1) // ratio))
    for bitmap in range(ratio, len(table) // 8, ratio + 1):
        c_vhdx.u64.pack_into(table, 8 * bitmap, 0)
    for number, place in places.items():
        c_vhdx.u64.pack_into(table, 8 * (number + number // ratio), place | c_vhdx.PAYLOAD_BLOCK_FULLY_PRESENT)
    return bytes(table)


def _with_checksum(data: bytes) -> bytes:
    checksum = crc32c(INITIAL, data) ^ INITIAL
    return data[: c_vhdx.CHECKSUM_OFFSET] + c_vhdx.u32.pack(checksum) + data[c_vhdx.CHECKSUM_OFFSET + 4 :]


def _identifier(key: str, what: str) -> bytes:
    """A GUID that is the same for the same key."""
    digest = bytearray(hashlib.sha256(f"propolis vhdx {what} {key}".encode()).digest()[:16])
    digest[7] = digest[7] & 0x0F | 0x80  # RFC 9562 version 8, in the GUID's mixed byte order
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def _parted(views: Sequence[memoryview], sizes: Sequence[int]) -> list[list[memoryview]]:
    """The same bytes in parts of these sizes."""
    parts: list[list[memoryview]] = []
    pending = iter(views)
    view = memoryview(b"")
    for size in sizes:
        part: list[memoryview] = []
        missing = size
        while missing:
            if not view:
                view = next(pending)
            part.append(view[:missing])
            view, missing = view[missing:], missing - len(part[-1])
        parts.append(part)
    return parts
