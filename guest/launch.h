/* From a spec to a running process: what happens between fork and execve. */
#ifndef PROPOLIS_LAUNCH_H
#define PROPOLIS_LAUNCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "spec.h"

/* Why a process could not be started, as the child reports it through its pipe. */
struct launch_failure {
    uint32_t code; /* enum wire_failure */
    char text[2048];
};

struct launched {
    pid_t pid;
    int report;     /* end of file: the program runs; otherwise one struct launch_failure */
    int input, output, errors; /* our ends of the pipes, non-blocking; a terminal has no `errors` (-1) */
};

/* Starts the process; false with `failure` filled when not even a child could be made.
 *
 * `make_directory`: a missing working directory is made, as docker does for the main process only.
 */
bool launch(const struct spec *spec, const char *hostname, bool make_directory, struct launched *launched,
            struct launch_failure *failure);

#endif
