/* Serves the host until the end of the machine. */
#ifndef PROPOLIS_AGENT_H
#define PROPOLIS_AGENT_H

#include <stdint.h>

#include "spec.h"

/* When the boot came to where, in ms since the kernel began. */
struct agent_stamps {
    uint64_t init, disks, root, ready;
};

/* `port` as transport_open gave it; `main` is the process that START runs. */
_Noreturn void agent_serve(int port, const struct spec *main, struct agent_stamps *stamps);

#endif
