/* What a process of the workload may do: capabilities, no_new_privs, system calls. For the child, before execve. */
#ifndef PROPOLIS_CONFINE_H
#define PROPOLIS_CONFINE_H

#include <stdbool.h>
#include <stdint.h>

/* Takes capabilities that are not in `mask` out of the bounding set, for good. False with errno. */
bool confine_bounds(int64_t mask);

/* Leaves root with the capabilities in `mask`; another user has none. After the user is set. False with errno. */
bool confine_capabilities(int64_t mask, bool root);

/* From here on execve raises no rights. */
bool confine_privileges(void);

/* Refuses system calls that no ordinary program makes, with EPERM, as docker's default profile does. */
bool confine_calls(void);

#endif
