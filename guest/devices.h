/* Finds the machine's devices by their address on the bus, never by the order in which they appeared. */
#ifndef PROPOLIS_DEVICES_H
#define PROPOLIS_DEVICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The most read-only disks: what the kernel's overlay takes. */
#define DEVICES_LAYERS 500
#define DEVICES_PATH 64

/* Starts listening for new devices; call it before loading modules. */
void devices_open(void);
void devices_close(void);

/* Sleeps until the kernel reports something new, or until `deadline` (now_ms); false when it is that time. */
bool devices_wait(uint64_t deadline);

/* Whether this is a guest of Hyper-V with its devices on VMBus, as ACPI tells also before the bus has a driver. */
bool devices_vmbus(void);

/* Whether there is a device that AF_VSOCK reaches the host through. */
bool devices_vsock(void);

/* Waits for `count` disks and writes their device paths in order of address.
 *
 * SCSI disks under Hyper-V: LUN by LUN on the controllers that wire.h names, each filled before the next. Elsewhere: LUN
 * 0 to count - 1 of target 0 on one controller. If there is no SCSI disk at all: exactly `count` virtio-blk disks, in
 * order of their place on the bus.
 */
void devices_disks(char (*paths)[DEVICES_PATH], int count);

/* Writes the device path of the virtio-serial port of that name; false when it is not there (yet). */
bool devices_port(const char *name, char path[DEVICES_PATH]);

#endif
