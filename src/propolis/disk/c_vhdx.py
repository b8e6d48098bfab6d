"""VHDX structures, spelled as in Microsoft's specification [MS-VHDX]. All little-endian, GUIDs in their mixed form."""

from struct import Struct
from uuid import UUID

MIB = 1 << 20

FILE_TYPE_IDENTIFIER_OFFSET = 0
HEADER_OFFSETS = (64 << 10, 128 << 10)
REGION_TABLE_OFFSETS = (192 << 10, 256 << 10)

FILE_TYPE_SIGNATURE = b"vhdxfile"
CREATOR_SIZE = 512
"""Bytes of UTF-16 behind the signature."""

HEADER_SIGNATURE = b"head"
HEADER_SIZE = 4096
HEADER_VERSION = 1
# Signature Checksum SequenceNumber FileWriteGuid DataWriteGuid LogGuid LogVersion Version LogLength LogOffset
header = Struct("<4s I Q 16s 16s 16s H H I Q")

REGION_TABLE_SIGNATURE = b"regi"
REGION_TABLE_SIZE = 64 << 10
MOST_REGIONS = 2047
region_table = Struct("<4s I I I")  # Signature Checksum EntryCount Reserved
region_entry = Struct("<16s Q I I")  # Guid FileOffset Length Required
CHECKSUM_OFFSET = 4
"""Of header and region table alike."""

BAT_REGION = UUID("2DC27766-F623-4200-9D64-115E9BFD4A08").bytes_le
METADATA_REGION = UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E").bytes_le

METADATA_SIGNATURE = b"metadata"
METADATA_TABLE_SIZE = 64 << 10
MOST_METADATA = 2047
MOST_ITEM = MIB
metadata_table = Struct("<8s H H 20x")  # Signature Reserved EntryCount
metadata_entry = Struct("<16s I I I I")  # ItemId Offset Length flags Reserved
IS_USER, IS_VIRTUAL_DISK, IS_REQUIRED = 1, 2, 4

FILE_PARAMETERS = UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B").bytes_le
VIRTUAL_DISK_SIZE = UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8").bytes_le
VIRTUAL_DISK_ID = UUID("BECA12AB-B2E6-4523-93EF-C309E000C746").bytes_le
LOGICAL_SECTOR_SIZE = UUID("8141BF1D-A96F-4709-BA47-F233A8FAAB5F").bytes_le
PHYSICAL_SECTOR_SIZE = UUID("CDA348C7-445D-4471-9CC9-E9885251C556").bytes_le
PARENT_LOCATOR = UUID("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C").bytes_le
file_parameters = Struct("<I I")  # BlockSize flags
LEAVE_BLOCK_ALLOCATED, HAS_PARENT = 1, 2
LEAST_BLOCK_SIZE, MOST_BLOCK_SIZE = MIB, 256 * MIB
MOST_VIRTUAL_SIZE = 64 << 40
u32 = Struct("<I")
u64 = Struct("<Q")

PAYLOAD_BLOCK_NOT_PRESENT = 0
PAYLOAD_BLOCK_UNDEFINED = 1
PAYLOAD_BLOCK_ZERO = 2
PAYLOAD_BLOCK_UNMAPPED = 3
PAYLOAD_BLOCK_FULLY_PRESENT = 6
PAYLOAD_BLOCK_PARTIALLY_PRESENT = 7
BAT_STATE, BAT_RESERVED, BAT_OFFSET = 0x7, 0xFFFF8, ~0xFFFFF & (1 << 64) - 1
"""Masks of a BAT entry; the offset counts in MiB and stands where it is that of the file."""


def chunk_ratio(logical_sector_size: int, block_size: int) -> int:
    """Payload blocks for each sector bitmap block."""
    return (1 << 23) * logical_sector_size // block_size
