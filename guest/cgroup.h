/* The workload's own control group (v2), beside the agent, which stays in the root. */
#ifndef PROPOLIS_CGROUP_H
#define PROPOLIS_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Makes the group; `most_tasks` as the host wants it, 0: as many as leave the agent some. Does nothing without cgroup2. */
void cgroup_open(int64_t most_tasks);

/* fork(2) into the group. */
pid_t cgroup_fork(void);

/* Whether no process is left in the group. */
bool cgroup_is_empty(void);

#endif
