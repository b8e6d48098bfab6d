/* Who may open which file: what HcsGrantVmAccess and its kin have granted, kept by the bridge if there is one, as
 * access lists on files outlive the process. With the state locked.
 */
#ifndef HCS_ACCESS_H
#define HCS_ACCESS_H

#include "types.h"

bool access_granted(const char *id, const char *path);

#endif
