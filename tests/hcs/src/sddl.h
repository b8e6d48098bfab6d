/* The syntax of security descriptors as strings, as Microsoft's "Security Descriptor String Format" has it. */
#ifndef HCS_SDDL_H
#define HCS_SDDL_H

#include "result.h"

bool sddl_check(const char *text, struct verdict *verdict);

#endif
