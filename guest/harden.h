/* What the machine as a whole takes from its workload, and gives it, before the first process. */
#ifndef PROPOLIS_HARDEN_H
#define PROPOLIS_HARDEN_H

#include "spec.h"

/* Entropy from the host, in hexadecimal, counted as such. */
void harden_seed(const char *seed);

/* Our kernel settings, then the host's. */
void harden_sysctls(char *const *sysctls);

/* Hides what in /proc tells too much, and makes what steers the kernel read-only, as docker does. */
void harden_proc(void);

/* The same for /sys. */
void harden_sys(void);

/* No more changes to the root. */
void harden_root(void);

#endif
