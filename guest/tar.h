/* The dialect of tar that travels between host and guest: ustar with pax headers, GNU sparse format 1.0.
 *
 * POSIX.1-2008 pax; xattrs as SCHILY.xattr.*, as GNU tar and star have them. Both sides write nothing else.
 */
#ifndef PROPOLIS_TAR_H
#define PROPOLIS_TAR_H

#define TAR_BLOCK 512
#define TAR_MOST_EXTENDED (1 << 20)
#define TAR_XATTR "SCHILY.xattr."

struct tar_header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
    char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], rest[12];
};

_Static_assert(sizeof(struct tar_header) == TAR_BLOCK, "a header is a block");

#endif
