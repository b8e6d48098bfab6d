/* Virtual disks, read independently of whoever wrote them: fixed VHD after its specification, VHDX after MS-VHDX. */
#ifndef HCS_DISK_H
#define HCS_DISK_H

#include "platform.h"
#include "result.h"

/* Whether a virtual disk of its extension's kind is whole and can be attached. */
bool disk_check(const char *path, bool read_only, struct verdict *verdict);

bool vhd_check(struct file *file, struct verdict *verdict);
bool vhdx_check(struct file *file, bool read_only, struct verdict *verdict);

#endif
