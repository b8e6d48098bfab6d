#include "modules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "console.h"

/* What the command line says of a module, as `name.parameter=value`: nobody but us reads it for those not built in. */
static void read_parameters(const char *file, char *parameters, size_t size)
{
    char line[4096], *rest = NULL;
    size_t length = strcspn(file, "."), used = 0;
    FILE *cmdline = fopen("/proc/cmdline", "re");
    parameters[0] = '\0';
    if (cmdline == NULL)
        return;
    if (fgets(line, sizeof line, cmdline) == NULL)
        line[0] = '\0';
    fclose(cmdline);
    for (char *word = strtok_r(line, " \n", &rest); word != NULL; word = strtok_r(NULL, " \n", &rest))
        if (strncmp(word, file, length) == 0 && word[length] == '.' && used + strlen(word) < size)
            used += (size_t)snprintf(parameters + used, size - used, "%s ", word + length + 1);
}

void modules_load(const char *listed)
{
    char name[256], path[300], parameters[1024];
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
        read_parameters(name, parameters, sizeof parameters);
        if (syscall(SYS_finit_module, fd, parameters, 0) != 0 && errno != EEXIST)
            die_errno("cannot load kernel module %s", name);
        close(fd);
        unlink(path); /* the initramfs is memory */
    }
    fclose(list);
}
