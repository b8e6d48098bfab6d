/* Mounts that the host asks for beside the root: shared directories and files, tmpfs. */
#ifndef PROPOLIS_SHARES_H
#define PROPOLIS_SHARES_H

#include <stdbool.h>

#include "spec.h"

#define SHARES_TAG 80

/* Opens what lies in shares, while the initramfs is still the root. */
void shares_open(const struct spec *spec);

/* Mounts all of it at its targets, once the image is the root. */
void shares_mount(const struct spec *spec);

/* The steps of it, for mounts that come later (mount.c). Each returns -1 with errno if it fails. */

/* Splits a source into the share's tag, and the file in it with its slash, or "". */
const char *shares_tag(const char *source, char tag[SHARES_TAG]);

/* Mounts a share at `place`. */
int shares_reach(const char *tag, bool read_only, const char *place);

/* Opens what lies at `path` as a mount of its own that has no place yet. */
int shares_clone(const char *path);

/* Makes a directory, or an empty file, and its parents; EISDIR or ENOTDIR if there is something of the other kind. */
int shares_target(const char *target, bool file);

/* Gives a clone its place. */
int shares_attach(int clone, const char *target);

#endif
