/* The writable disk's last moments: synced and read-only, so that it is left clean. */
#ifndef PROPOLIS_SETTLE_H
#define PROPOLIS_SETTLE_H

/* From now on `mountpoint`, a path of the initramfs that stays valid, is what settle makes read-only. */
void settle_disk(const char *mountpoint);

/* The image becomes the root: `initramfs`, a descriptor that stays open, leads back to where the disk is mounted. */
void settle_beneath(int initramfs);

/* Syncs and makes the writable disk read-only. Harmless before it is mounted. */
void settle(void);

#endif
