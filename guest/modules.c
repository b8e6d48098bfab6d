#include "modules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "console.h"

/* What stands on the command line for kernels that have it built in (guest/cmdline.py): nobody reads it for modules. */
static const char *parameters(const char *name)
{
    return strcmp(name, "scsi_mod.ko") == 0 ? "scan=manual" : "";
}

void modules_load(const char *listed)
{
    char name[256], path[300];
    FILE *list = fopen(listed, "re");
    if (list == NULL) {
        if (errno != ENOENT)
            die_errno("cannot read %s in the initramfs", listed);
        return;
    }
    while (fgets(name, sizeof name, list) != NULL) {
        name[strcspn(name, "\n")] = '\0';
        if (name[0] == '\0')
            continue;
        snprintf(path, sizeof path, "/modules/%s", name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            die_errno("cannot open kernel module %s", name);
        if (syscall(SYS_finit_module, fd, parameters(name), 0) != 0 && errno != EEXIST)
            die_errno("cannot load kernel module %s", name);
        close(fd);
        unlink(path); /* the initramfs is memory */
    }
    fclose(list);
}
