#include "settle.h"

#include <stddef.h>
#include <sys/mount.h>
#include <unistd.h>

static const char *disk;      /* NULL while nothing is mounted there */
static int initramfs_fd = -1; /* -1 while the root has not changed */

void settle_disk(const char *mountpoint)
{
    disk = mountpoint;
}

void settle_beneath(int initramfs)
{
    initramfs_fd = initramfs;
}

void settle(void)
{
    if (disk == NULL)
        return;
    sync();
    if (initramfs_fd >= 0 && (fchdir(initramfs_fd) != 0 || chroot(".") != 0))
        return;
    /* The superblock, not only this mount: below the overlay nobody writes any more either. */
    mount(NULL, disk, NULL, MS_REMOUNT | MS_RDONLY, NULL);
}
