/* HcsModifyComputeSystem: what may be added, removed and changed while a system runs. */
#ifndef HCS_MODIFY_H
#define HCS_MODIFY_H

#include "request.h"

carry_out modify, modify_as_user; /* without and with an access token */

#endif
