/* From an initramfs to the image's root: kernel filesystems, layers, overlay, change of root. */
#ifndef PROPOLIS_MOUNTS_H
#define PROPOLIS_MOUNTS_H

/* /dev, /proc and /sys of the initramfs. */
void mounts_early(void);

/* Mounts the read-only layers (bottom first) and the writable disk, by device path. */
void mounts_disks(char *const *layers, int count, const char *writable);

/* Stacks the layers below the writable disk and makes the result the root directory. */
void mounts_root(int count);

/* Where the writable disk is mounted until mounts_root. */
#define MOUNTS_MACHINE "/run/machine"

#endif
