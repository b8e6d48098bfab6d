/* Callbacks: a queue and one thread of its own that calls into the program, in order and outside the lock.
 * All functions are called with the state locked.
 */
#ifndef HCS_NOTICE_H
#define HCS_NOTICE_H

#include "types.h"

struct handle;
struct operation;

void notice_event(struct handle *handle, uint32_t type, const char *data, struct operation *operation);
void notice_completion(struct operation *operation);

bool notice_in_callback(void); /* this thread is the one that calls */

/* Wait until no callback of this handle runs; what is queued for it is dropped once it is closed. */
void notice_drain(struct handle *handle);

#endif
