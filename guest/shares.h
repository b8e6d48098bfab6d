/* Mounts that the host asks for beside the root: shared directories and files, tmpfs. */
#ifndef PROPOLIS_SHARES_H
#define PROPOLIS_SHARES_H

#include "spec.h"

/* Opens what lies in shares, while the initramfs is still the root. */
void shares_open(const struct spec *spec);

/* Mounts all of it at its targets, once the image is the root. */
void shares_mount(const struct spec *spec);

#endif
