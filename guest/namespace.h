/* A process namespace for the workload, where the host wants one: it sees itself alone, and not the agent. */
#ifndef PROPOLIS_NAMESPACE_H
#define PROPOLIS_NAMESPACE_H

#include <stdbool.h>
#include <sys/types.h>

/* Makes it, with a /proc of its own. */
void namespace_open(bool unmasked);

/* fork(2) of a process of the workload: into its control group, and into the namespace if there is one. */
pid_t namespace_fork(void);

/* Ends the namespace's first process once no other is left; true while there is a namespace to wait for. */
bool namespace_finish(void);

#endif
