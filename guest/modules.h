/* Kernel modules of the initramfs. */
#ifndef PROPOLIS_MODULES_H
#define PROPOLIS_MODULES_H

/* Loads every module named in the file `listed`, in that order, and removes it. No such list: the kernel needs none. */
void modules_load(const char *listed);

#endif
