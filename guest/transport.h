/* The byte stream to the host. */
#ifndef PROPOLIS_TRANSPORT_H
#define PROPOLIS_TRANSPORT_H

#include <stddef.h>

/* Opens the agent's virtio-serial port, or dials the host over vsock, as the machine has it; returns a blocking descriptor. */
int transport_open(void);

/* Sends the first bytes; the host may still be busy connecting, so this waits, bounded. Then nothing blocks any more. */
void transport_greet(int fd, const void *data, size_t length);

#endif
