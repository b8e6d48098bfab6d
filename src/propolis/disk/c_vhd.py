"""The fixed VHD's footer, spelled as in Microsoft's Virtual Hard Disk Image Format Specification 1.0. Big-endian."""

from struct import Struct

COOKIE = b"conectix"
FEATURES_RESERVED = 2
FILE_FORMAT_VERSION = 0x00010000
NO_DATA_OFFSET = 0xFFFFFFFFFFFFFFFF
CREATOR_APPLICATION = b"win "
"""QEMU takes the size from CurrentSize only for creators it knows, and computes it from the geometry otherwise."""
CREATOR_VERSION = 0x000A0000
CREATOR_HOST_OS = b"Wi2k"
DISK_TYPE_FIXED = 2

# Cookie Features FileFormatVersion DataOffset TimeStamp CreatorApplication CreatorVersion CreatorHostOS OriginalSize
# CurrentSize Cylinders Heads SectorsPerTrack DiskType Checksum UniqueId SavedState Reserved
footer = Struct(">8s I I Q I 4s I 4s Q Q H B B I I 16s B 427x")
CHECKSUM_OFFSET = 64
MOST_SECTORS = 65535 * 16 * 255
