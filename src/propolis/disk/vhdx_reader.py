"""Reads VHDX files, ours and others', and tells what is wrong with one. Follows `c_vhdx`.

The files are not trusted: every offset, size and count is bounded before it is used. Not read: files with a parent, and
files whose log has to be replayed first.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import error as struct_error
from uuid import UUID

from propolis.disk import c_vhdx
from propolis.disk.c_vhdx import MIB
from propolis.disk.checksum import INITIAL, crc32c
from propolis.errors import DiskDamaged, DiskError

_REQUIRED_ITEMS = {
    c_vhdx.FILE_PARAMETERS: (8, c_vhdx.IS_REQUIRED),
    c_vhdx.VIRTUAL_DISK_SIZE: (8, c_vhdx.IS_VIRTUAL_DISK | c_vhdx.IS_REQUIRED),
    c_vhdx.VIRTUAL_DISK_ID: (16, c_vhdx.IS_VIRTUAL_DISK | c_vhdx.IS_REQUIRED),
    c_vhdx.LOGICAL_SECTOR_SIZE: (4, c_vhdx.IS_VIRTUAL_DISK | c_vhdx.IS_REQUIRED),
    c_vhdx.PHYSICAL_SECTOR_SIZE: (4, c_vhdx.IS_VIRTUAL_DISK | c_vhdx.IS_REQUIRED),
}
_SECTOR_SIZES = (512, 4096)
_MOST_FAULTS = 100
_MOST_BAT = 640 * MIB
"""More than 64 TiB in blocks of a MiB need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VhdxFacts:
    """What a VHDX says of itself; sizes in bytes."""

    creator: str
    sequence: int
    block_size: int
    virtual_size: int
    logical_sector: int
    physical_sector: int
    disk_id: UUID
    is_fixed: bool
    allocated_blocks: int


@dataclass(frozen=True, slots=True)
class _Header:
    offset: int
    sequence: int
    log_guid: bytes
    log_version: int
    version: int
    log_length: int
    log_offset: int
    rest: bytes


class VhdxReader:
    """See `base.DiskReader`."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            DiskDamaged: it is no VHDX, or it contradicts the specification in what is needed to read it.
            DiskError: it has a parent, or a log to replay.
        """
        self._path = path
        self._file = path.open("rb")
        self._length = os.fstat(self._file.fileno()).st_size
        try:
            self._open()
        except (struct_error, _Wrong) as error:
            self._file.close()
            raise self._damaged(str(error)) from None
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        if self._bytes(0, len(c_vhdx.FILE_TYPE_SIGNATURE)) != c_vhdx.FILE_TYPE_SIGNATURE:
            raise _Wrong("it does not begin as a VHDX")
        headers = [found for found in map(self._header, c_vhdx.HEADER_OFFSETS) if isinstance(found, _Header)]
        if not headers:
            raise _Wrong("neither of its headers is valid")
        self._current = max(headers, key=lambda found: found.sequence)
        if self._current.log_guid != bytes(16):
            raise DiskError(
                f"{self._path} was not closed properly: it has a log to replay",
                hint="let Windows or `qemu-img check -r all` mend it",
            )
        tables = [found for found in map(self._regions, c_vhdx.REGION_TABLE_OFFSETS) if isinstance(found, dict)]
        if not tables:
            raise _Wrong("neither of its region tables is valid")
        regions = tables[0]
        if not {c_vhdx.BAT_REGION, c_vhdx.METADATA_REGION} <= regions.keys():
            raise _Wrong("it lacks a region")
        self._items = self._metadata(*regions[c_vhdx.METADATA_REGION][:2])
        self.block_size, self._flags = c_vhdx.file_parameters.unpack(self._item(c_vhdx.FILE_PARAMETERS))
        if self._flags & c_vhdx.HAS_PARENT:
            raise DiskError(f"{self._path} is a differencing disk, which cannot be read here", hint="merge it first")
        (self.size,) = c_vhdx.u64.unpack(self._item(c_vhdx.VIRTUAL_DISK_SIZE))
        self.logical_sector, self.physical_sector = (
            c_vhdx.u32.unpack(self._item(item))[0] for item in (c_vhdx.LOGICAL_SECTOR_SIZE, c_vhdx.PHYSICAL_SECTOR_SIZE)
        )
        self._check_sizes()
        self._read_bat(*regions[c_vhdx.BAT_REGION][:2])

    def _check_sizes(self) -> None:
        size = self.block_size
        if not c_vhdx.LEAST_BLOCK_SIZE <= size <= c_vhdx.MOST_BLOCK_SIZE or size & size - 1:
            raise _Wrong(f"its blocks have {size} bytes")
        if self.logical_sector not in _SECTOR_SIZES or self.physical_sector not in _SECTOR_SIZES:
            raise _Wrong("its sectors are neither of 512 nor of 4096 bytes")
        if not 0 < self.size <= c_vhdx.MOST_VIRTUAL_SIZE or self.size % self.logical_sector:
            raise _Wrong(f"the disk in it has {self.size} bytes")

    def _read_bat(self, offset: int, length: int) -> None:
        self._ratio = c_vhdx.chunk_ratio(self.logical_sector, self.block_size)
        self._blocks = -(-self.size // self.block_size)
        entries = self._blocks + (self._blocks - 1) // self._ratio
        if 8 * entries > length or length > _MOST_BAT:
            raise _Wrong("its block allocation table is too short, or too long")
        self._bat = memoryview(self._bytes(offset, 8 * entries))

    def _entry(self, number: int) -> int:
        return int(c_vhdx.u64.unpack_from(self._bat, 8 * (number + number // self._ratio))[0])

    def read(self, offset: int, length: int) -> bytes:
        """See `DiskReader.read`."""
        if not 0 <= offset <= self.size - length:
            raise self._damaged("something in it lies outside of it")
        parts = []
        while length:
            number, within = divmod(offset, self.block_size)
            size = min(length, self.block_size - within)
            entry = self._entry(number)
            if entry & c_vhdx.BAT_STATE == c_vhdx.PAYLOAD_BLOCK_FULLY_PRESENT:
                try:
                    parts.append(self._bytes((entry & c_vhdx.BAT_OFFSET) + within, size))
                except _Wrong as error:
                    raise self._damaged(str(error)) from None
            else:
                parts.append(bytes(size))
            offset += size
            length -= size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """See `DiskReader.close`."""
        self._file.close()

    def facts(self) -> VhdxFacts:
        """What the file says of itself."""
        creator = self._bytes(len(c_vhdx.FILE_TYPE_SIGNATURE), c_vhdx.CREATOR_SIZE).decode("utf-16le", "replace")
        entries = (self._entry(number) for number in range(self._blocks))
        return VhdxFacts(
            creator=creator.partition("\0")[0],
            sequence=self._current.sequence,
            block_size=self.block_size,
            virtual_size=self.size,
            logical_sector=self.logical_sector,
            physical_sector=self.physical_sector,
            disk_id=UUID(bytes_le=self._item(c_vhdx.VIRTUAL_DISK_ID)),
            is_fixed=bool(self._flags & c_vhdx.LEAVE_BLOCK_ALLOCATED),
            allocated_blocks=sum(entry & c_vhdx.BAT_STATE == c_vhdx.PAYLOAD_BLOCK_FULLY_PRESENT for entry in entries),
        )

    def faults(self) -> list[str]:
        """What of the specification the file breaks, beyond what opening it has seen; at most a hundred."""
        found: list[str] = []
        for fault in self._all_faults():
            found.append(fault)
            if len(found) == _MOST_FAULTS:
                break
        return found

    def _all_faults(self) -> Iterator[str]:
        yield from self._header_faults()
        tables = [self._regions(offset) for offset in c_vhdx.REGION_TABLE_OFFSETS]
        for number, table in enumerate(tables, 1):
            if isinstance(table, str):
                yield f"region table {number}: {table}"
        whole = [table for table in tables if isinstance(table, dict)]
        if len(whole) == len(tables) and whole[0] != whole[1]:
            yield "the region tables differ"
        if self._length % MIB:
            yield f"the file's length of {self._length} bytes is not a multiple of 1 MiB"
        taken = [(0, MIB, "the headers"), (self._current.log_offset, self._current.log_length, "the log")]
        for region, (offset, length, _) in whole[0].items():
            name = {c_vhdx.BAT_REGION: "the BAT", c_vhdx.METADATA_REGION: "the metadata"}.get(region, "another region")
            taken.append((offset, length, name))
        yield from self._metadata_faults()
        yield from self._bat_faults(taken)

    def _header_faults(self) -> Iterator[str]:
        headers = [self._header(offset) for offset in c_vhdx.HEADER_OFFSETS]
        yield from (f"header {number}: {found}" for number, found in enumerate(headers, 1) if isinstance(found, str))
        valid = [found for found in headers if isinstance(found, _Header)]
        if len(valid) == len(headers) and valid[0].sequence == valid[1].sequence:
            yield "both headers have the same sequence number"
        for found in valid:
            if found.log_version or found.log_guid != bytes(16):
                yield "a header tells of a log"
            if found.log_length % MIB or found.log_offset % MIB or (found.log_length and found.log_offset < MIB):
                yield "the log is not at a multiple of 1 MiB"
            elif found.log_offset + found.log_length > self._length:
                yield "the log lies outside of the file"
            if any(found.rest):
                yield "a header has reserved bytes that are not zero"

    def _metadata_faults(self) -> Iterator[str]:
        places = []
        for item, (offset, length, flags) in self._items.items():
            known = _REQUIRED_ITEMS.get(item)
            if known is not None and length != known[0]:
                yield f"metadata item {UUID(bytes_le=item)} has {length} bytes"
            if known is not None and flags != known[1]:
                yield f"metadata item {UUID(bytes_le=item)} has flags {flags}"
            if known is None and flags & c_vhdx.IS_REQUIRED:
                yield f"metadata item {UUID(bytes_le=item)} is required and unknown"
            places.append((offset, length, "a metadata item"))
        yield from (f"metadata items missing: {UUID(bytes_le=item)}" for item in _REQUIRED_ITEMS.keys() - self._items)
        yield from _overlaps(places)
        if self._flags & ~(c_vhdx.LEAVE_BLOCK_ALLOCATED | c_vhdx.HAS_PARENT):
            yield "reserved bits of the file parameters are set"

    def _bat_faults(self, taken: list[tuple[int, int, str]]) -> Iterator[str]:
        for number in range(self._blocks):
            entry = self._entry(number)
            state, offset = entry & c_vhdx.BAT_STATE, entry & c_vhdx.BAT_OFFSET
            if entry & c_vhdx.BAT_RESERVED:
                yield f"block {number}: reserved bits are set"
            if state == c_vhdx.PAYLOAD_BLOCK_FULLY_PRESENT:
                if not MIB <= offset <= self._length - self.block_size:
                    yield f"block {number} lies outside of the file"
                else:
                    taken.append((offset, self.block_size, f"block {number}"))
            elif state in (4, 5, c_vhdx.PAYLOAD_BLOCK_PARTIALLY_PRESENT):
                yield f"block {number} has the state {state}, which it cannot have"
            elif offset:
                yield f"block {number} has a place, but is absent"
        for bitmap in range(self._ratio, len(self._bat) // 8, self._ratio + 1):
            if c_vhdx.u64.unpack_from(self._bat, 8 * bitmap)[0]:
                yield f"sector bitmap {bitmap // (self._ratio + 1)} is in use, but there is no parent"
        yield from _overlaps(taken)

    def _header(self, offset: int) -> _Header | str:
        """The header there, or what makes it invalid."""
        try:
            data = self._bytes(offset, c_vhdx.HEADER_SIZE)
        except _Wrong as error:
            return str(error)
        signature, _, sequence, _, _, log_guid, log_version, version, length, place = c_vhdx.header.unpack_from(data)
        if signature != c_vhdx.HEADER_SIGNATURE:
            return "wrong signature"
        if not _checksum_fits(data):
            return "wrong checksum"
        if version != c_vhdx.HEADER_VERSION:
            return f"unknown version {version}"
        return _Header(offset, sequence, log_guid, log_version, version, length, place, data[c_vhdx.header.size :])

    def _regions(self, offset: int) -> dict[bytes, tuple[int, int, int]] | str:
        """The regions of the table there (offset, length, whether required), or what makes it invalid."""
        try:
            data = self._bytes(offset, c_vhdx.REGION_TABLE_SIZE)
        except _Wrong as error:
            return str(error)
        signature, _, count, _ = c_vhdx.region_table.unpack_from(data)
        if signature != c_vhdx.REGION_TABLE_SIGNATURE or count > c_vhdx.MOST_REGIONS:
            return "wrong signature or too many regions"
        if not _checksum_fits(data):
            return "wrong checksum"
        regions = {}
        for number in range(count):
            at = c_vhdx.region_table.size + number * c_vhdx.region_entry.size
            region, place, length, required = c_vhdx.region_entry.unpack_from(data, at)
            if place % MIB or length % MIB or place < MIB or place + length > self._length:
                return "a region does not lie at a multiple of 1 MiB in the file"
            if region not in (c_vhdx.BAT_REGION, c_vhdx.METADATA_REGION) and required & 1:
                return f"the region {UUID(bytes_le=region)} is required and unknown"
            regions[region] = place, length, required
        return regions

    def _metadata(self, offset: int, length: int) -> dict[bytes, tuple[int, int, int]]:
        """Place in the file, length and flags of each item."""
        table = self._bytes(offset, c_vhdx.METADATA_TABLE_SIZE)
        signature, _, count = c_vhdx.metadata_table.unpack_from(table)
        if signature != c_vhdx.METADATA_SIGNATURE or count > c_vhdx.MOST_METADATA:
            raise _Wrong("its metadata table is broken")
        items = {}
        for number in range(count):
            at = c_vhdx.metadata_table.size + number * c_vhdx.metadata_entry.size
            item, place, size, flags, _ = c_vhdx.metadata_entry.unpack_from(table, at)
            if size > c_vhdx.MOST_ITEM or place + size > length or (size and place < c_vhdx.METADATA_TABLE_SIZE):
                raise _Wrong("a metadata item lies outside of its region")
            items[item] = offset + place, size, flags
        return items

    def _item(self, item: bytes) -> bytes:
        if item not in self._items:
            raise _Wrong(f"it lacks the metadata item {UUID(bytes_le=item)}")
        offset, length, _ = self._items[item]
        return self._bytes(offset, length)

    def _bytes(self, offset: int, length: int) -> bytes:
        if not 0 <= offset <= self._length - length:
            raise _Wrong("the file is cut off")
        self._file.seek(offset)
        return self._file.read(length)

    def _damaged(self, what: str) -> DiskDamaged:
        return DiskDamaged(
            f"the VHDX {self._path} is damaged: {what}",
            path=self._path,
            hint="remove it; if it is a cached one, it will be made again",
        )


class _Wrong(Exception):
    """Something in the file breaks the specification; the text says what."""


def _checksum_fits(data: bytes) -> bool:
    at = c_vhdx.CHECKSUM_OFFSET
    blank = data[:at] + bytes(4) + data[at + 4 :]
    return crc32c(INITIAL, blank) ^ INITIAL == int.from_bytes(data[at : at + 4], "little")


def _overlaps(places: list[tuple[int, int, str]]) -> Iterator[str]:
    """Places (offset, length, what) that share bytes with an earlier one."""
    end, before = 0, ""
    for offset, length, what in sorted(places):
        if length and offset < end:
            yield f"{what} overlaps {before}"
        if offset + length > end:
            end, before = offset + length, what
