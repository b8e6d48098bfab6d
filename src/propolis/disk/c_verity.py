"""dm-verity's superblock, spelled as in cryptsetup's on-disk format of verity devices, version 1. Little-endian.

The kernel itself never reads it (Documentation/admin-guide/device-mapper/verity.rst); `veritysetup` does.
"""

from struct import Struct

SIGNATURE = b"verity\0\0"
VERSION = 1
HASH_TYPE_NORMAL = 1
"""The salt goes in front of what is hashed, and digests are padded to a power of two."""
ALGORITHM = b"sha256"
DIGEST_SIZE = 32
BLOCK_SIZE = 4096
HASHES_PER_BLOCK = BLOCK_SIZE // DIGEST_SIZE
MAX_SALT_SIZE = 256

# signature version hash_type uuid algorithm data_block_size hash_block_size data_blocks salt_size salt
verity_sb = Struct("<8s I I 16s 32s I I Q H 6x 256s 168x")
