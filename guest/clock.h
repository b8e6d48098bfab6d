/* The guest's clock, told by the host. */
#ifndef PROPOLIS_CLOCK_H
#define PROPOLIS_CLOCK_H

#include <stdint.h>

/* Sets the time to `now`, in ns since 1970: small differences are slewed away, larger ones stepped over. */
void clock_tell(uint64_t now);

#endif
