/* Failures on demand: the document in PROPOLIS_HCS_FAULTS (README.md has its form). A document that is not understood
 * ends the process: a test that asks for a failure and gets none would pass for the wrong reason.
 */
#ifndef HCS_FAULT_H
#define HCS_FAULT_H

#include "types.h"

struct fault {
    bool immediate;  /* the call itself fails; otherwise its operation */
    bool never;      /* the operation never ends */
    bool disconnect; /* the service dies at this call */
    HRESULT code;    /* 0: it succeeds after all */
    uint32_t delay;  /* milliseconds until the operation ends */
    char *document;  /* a ResultError of the test's own, or NULL */
};

/* What is to happen to this call of the function `name`; false: nothing special. With the state locked. */
bool fault_take(const char *name, struct fault *fault);

enum guest_fate { GUEST_RUNS, GUEST_CRASHES, GUEST_EXITS, GUEST_HANGS, GUEST_TRIPLE_FAULTS, GUEST_LOSES_SERVICE };

/* What becomes of a guest `after` milliseconds after its start. */
enum guest_fate fault_guest(uint32_t *after);

uint32_t fault_delay(void); /* milliseconds that an operation takes: PROPOLIS_HCS_DELAY_MS, 3 by default */

#endif
