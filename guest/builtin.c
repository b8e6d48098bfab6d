#include "builtin.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int arguments;
    int (*run)(char *const *argv);
} programs[] = {
    {"stat", 2, builtin_stat},     {"list", 1, builtin_list},       {"mkdir", 3, builtin_mkdir},
    {"remove", 2, builtin_remove}, {"rename", 2, builtin_rename},   {"read", 3, builtin_read},
    {"write", 3, builtin_write},   {"extract", 2, builtin_extract}, {"archive", 2, builtin_archive},
    {"watch", 2, builtin_watch},   {"dial", 3, builtin_dial},       {"stats", 0, builtin_stats},
    {"mount", 5, builtin_mount},   {"unmount", 2, builtin_unmount},
};

int builtin_fault(const char *subject, int error)
{
    fprintf(stderr, "%s: %s", subject, strerror(error));
    return error;
}

int builtin_run(char *const *argv)
{
    int count = 0;
    while (argv[count] != NULL)
        count++;
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        if (strcmp(argv[0], programs[i].name) != 0)
            continue;
        if (count != programs[i].arguments + 1)
            return builtin_fault(argv[0], EINVAL);
        int status = programs[i].run(argv);
        /* What was told counts only if all of it went out. */
        return fflush(stdout) != 0 && status == 0 ? errno : status;
    }
    return builtin_fault(argv[0], ENOSYS);
}
