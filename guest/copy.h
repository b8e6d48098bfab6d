/* Moves bytes between descriptors, inside the kernel where it can. */
#ifndef PROPOLIS_COPY_H
#define PROPOLIS_COPY_H

#include <stdint.h>
#include <sys/types.h>

#define COPY_ALL INT64_MAX

/* Moves up to `most` bytes, fewer at the end of the input; returns how many, or -1 with errno. */
int64_t copy_bytes(int from, int to, int64_t most);

/* Writes all; 0, or -1 with errno. */
int copy_out(int to, const void *data, size_t length);

/* Reads exactly `length` bytes; fewer only at the end of the input. -1 with errno. */
ssize_t copy_in(int from, void *data, size_t length);

#endif
