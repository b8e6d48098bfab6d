"""ext4's structures and constants, spelled as in the kernel's Documentation/filesystems/ext4 and fs/ext4/ext4.h.

All little-endian. Only what we write: 4 KiB blocks, 256-byte inodes, metadata checksums.
"""

from struct import Struct

EXT4_SUPER_MAGIC = 0xEF53
BLOCK_SIZE = 4096
LOG_BLOCK_SIZE = 2
INODE_SIZE = 256
EXTRA_ISIZE = 32
GOOD_OLD_INODE_SIZE = 128
INODES_PER_BLOCK = BLOCK_SIZE // INODE_SIZE
DESC_SIZE = 32
DESC_SIZE_64 = 64
BLOCKS_PER_GROUP = 8 * BLOCK_SIZE

EXT4_ROOT_INO = 2
EXT4_JOURNAL_INO = 8
EXT4_GOOD_OLD_FIRST_INO = 11
EXT4_LINK_MAX = 65000
EXT4_NAME_LEN = 255
MAX_FILE = ((1 << 32) - 1) * BLOCK_SIZE
"""Logical block numbers have 32 bits, and the last one is not used."""
MAX_SYMLINK = BLOCK_SIZE - 1
FAST_SYMLINK = 59
"""Longest target that is kept in i_block."""

EXT4_FEATURE_COMPAT_HAS_JOURNAL = 0x4
EXT4_FEATURE_COMPAT_EXT_ATTR = 0x8
EXT4_FEATURE_COMPAT_DIR_INDEX = 0x20
EXT4_FEATURE_COMPAT_SPARSE_SUPER2 = 0x200
EXT4_FEATURE_INCOMPAT_FILETYPE = 0x2
EXT4_FEATURE_INCOMPAT_EXTENTS = 0x40
EXT4_FEATURE_INCOMPAT_64BIT = 0x80
EXT4_FEATURE_INCOMPAT_FLEX_BG = 0x200
EXT4_FEATURE_INCOMPAT_CSUM_SEED = 0x2000
EXT4_FEATURE_RO_COMPAT_LARGE_FILE = 0x2
EXT4_FEATURE_RO_COMPAT_HUGE_FILE = 0x8
EXT4_FEATURE_RO_COMPAT_DIR_NLINK = 0x20
EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE = 0x40
EXT4_FEATURE_RO_COMPAT_METADATA_CSUM = 0x400

EXT4_VALID_FS = 1
EXT4_DYNAMIC_REV = 1
EXT2_FLAGS_UNSIGNED_HASH = 2
DX_HASH_HALF_MD4 = 1
CHECKSUM_TYPE_CRC32C = 1

EXT4_BG_INODE_UNINIT = 1
EXT4_BG_BLOCK_UNINIT = 2
EXT4_BG_INODE_ZEROED = 4

EXT4_EXTENTS_FL = 0x80000
EXT4_INDEX_FL = 0x1000
EXT_MAGIC = 0xF30A
EXT_INIT_MAX_LEN = 1 << 15
EXTENTS_IN_INODE = 4
EXTENTS_IN_BLOCK = (BLOCK_SIZE - 12) // 12

S_IFIFO, S_IFCHR, S_IFDIR, S_IFBLK, S_IFREG, S_IFLNK = 0o010000, 0o020000, 0o040000, 0o060000, 0o100000, 0o120000
FILE_TYPES = bytes((0, 5, 3, 0, 2, 0, 4, 0, 1, 0, 7, 0, 6, 0, 0, 0))
"""A directory entry's file_type, by the four highest bits of i_mode."""
EXT4_FT_DIR_CSUM = 0xDE

EXT4_XATTR_MAGIC = 0xEA020000

# inodes blocks r_blocks free_blocks free_inodes first_data_block log_block_size log_cluster_size blocks_per_group
# clusters_per_group inodes_per_group mtime wtime | mnt_count max_mnt_count magic state errors minor_rev | lastcheck
# checkinterval creator_os rev_level | def_resuid def_resgid | first_ino | inode_size block_group_nr | feature_compat
# feature_incompat feature_ro_compat | uuid volume_name last_mounted
super_block_head = Struct("<13I HhHHHH 4I HH I HH 3I 16s 16s 64s")
SB_JOURNAL_INUM = 0xE0
SB_HASH_SEED = 0xEC
sb_hash = Struct("<16s B B H")  # hash_seed def_hash_version jnl_backup_type desc_size
SB_JNL_BLOCKS = 0x10C
SB_BLOCKS_HI = 0x150
sb_high = Struct("<3I")  # blocks_count_hi r_blocks_count_hi free_blocks_count_hi
SB_MIN_EXTRA_ISIZE = 0x15C
sb_extra_isize = Struct("<HH I")  # min_extra_isize want_extra_isize flags
SB_LOG_GROUPS_PER_FLEX = 0x174
SB_CHECKSUM_TYPE = 0x175
SB_BACKUP_BGS = 0x24C
SB_CHECKSUM = 0x3FC
SB_OFFSET = 1024
SB_SIZE = 1024

# block_bitmap inode_bitmap inode_table | free_blocks free_inodes used_dirs flags | exclude_bitmap | block_bitmap_csum
# inode_bitmap_csum itable_unused checksum
group_desc = Struct("<3I 4H I 4H")
GROUP_DESC_CHECKSUM = 0x1E
# high parts of: block_bitmap inode_bitmap inode_table | free_blocks free_inodes used_dirs itable_unused |
# exclude_bitmap | block_bitmap_csum inode_bitmap_csum | reserved
group_desc_high = Struct("<3I 4H I 2H I")

# mode uid size_lo atime ctime mtime dtime gid links_count blocks_lo flags version | block | generation file_acl_lo
# size_high obso_faddr blocks_high file_acl_high uid_high gid_high checksum_lo reserved | extra_isize checksum_hi
# ctime_extra mtime_extra atime_extra crtime crtime_extra version_hi projid
inode = Struct("<HHIIIIIHHIII 60s IIII HHHHHH HH 7I")
INODE_CHECKSUM_LO = 0x7C
INODE_CHECKSUM_HI = 0x82

# the same with one extent, as most inodes have it: i_block is extent_header, extent, zeros. What is always 0 is not
# given, as packing takes its time by the number of values: mode uid size atime ctime mtime gid links blocks
# flags | header | extent | size_high uid_high gid_high | extra_isize ctime_extra mtime_extra atime_extra crtime
# crtime_extra
inode_one_extent = Struct("<HHIIII 4x HHII 4x 12s IHHI 36x 8x I 4x 4x HH 4x H 2x 5I 8x")

extent_header = Struct("<4H I")  # magic entries max depth generation
extent = Struct("<I H H I")  # block len start_hi start_lo
extent_idx = Struct("<I I H H")  # block leaf_lo leaf_hi unused
dir_entry = Struct("<I H B B")  # inode rec_len name_len file_type
dir_entry_tail = Struct("<I H B B I")  # zero rec_len zero file_type checksum
dx_root_info = Struct("<I B B B B")  # reserved_zero hash_version info_length indirect_levels unused_flags
dx_countlimit = Struct("<H H I")  # limit count block
dx_entry = Struct("<I I")  # hash block
dx_tail = Struct("<I I")  # reserved checksum
xattr_header = Struct("<5I 12x")  # magic refcount blocks hash checksum
XATTR_HEADER_CHECKSUM = 16
xattr_entry = Struct("<B B H I I I")  # name_len name_index value_offs value_inum value_size hash
u16 = Struct("<H")
u32 = Struct("<I")
u64 = Struct("<Q")
