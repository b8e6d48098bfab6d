/* Byte streams to the host over AF_VSOCK: hvsocket under Hyper-V, virtio-vsock elsewhere. */
#ifndef PROPOLIS_VSOCK_H
#define PROPOLIS_VSOCK_H

#include <stdint.h>

/* Connects to a port of the host; returns a blocking descriptor, or -1 with errno.
 *
 * While the host does not listen yet, or the driver is not there yet, it is tried again until `deadline` (now_ms), at
 * least once. `buffer`: bytes for each direction, which have to be known before the connection; 0 leaves them as they are.
 */
int vsock_dial(unsigned port, int buffer, uint64_t deadline);

#endif
