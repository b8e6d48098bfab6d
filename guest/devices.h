/* Finds the machine's devices by their address on the bus, never by the order in which they appeared. */
#ifndef PROPOLIS_DEVICES_H
#define PROPOLIS_DEVICES_H

#include <stddef.h>

/* The most read-only disks: what the kernel's overlay takes. */
#define DEVICES_LAYERS 500
#define DEVICES_PATH 64

/* Starts listening for new devices; call it before loading modules. */
void devices_open(void);
void devices_close(void);

/* Waits for `count` disks and writes their device paths in order of address.
 *
 * SCSI disks: LUN 0 to count - 1 of target 0 on one controller. If there is no SCSI disk at all: exactly `count`
 * virtio-blk disks, in order of their place on the bus.
 */
void devices_disks(char (*paths)[DEVICES_PATH], int count);

/* Waits for the virtio-serial port of that name and writes its device path. */
void devices_port(const char *name, char path[DEVICES_PATH]);

#endif
