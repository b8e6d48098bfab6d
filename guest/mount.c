/* The builtins `mount` and `unmount`: shares and memory that come and go while the machine runs.
 *
 * The image is the root, so no link of it leads anywhere else. A mount is known by the kernel's number for it: what the
 * workload has mounted itself at the same place is left alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "builtin.h"
#include "shares.h"

#define BENCH "/proc"

/* What a source names, without a place. Only what is attached can be cloned: it is, where nobody but this process looks. */
static int open_share(const char *source, bool read_only)
{
    char tag[SHARES_TAG], path[PATH_MAX];
    const char *file = shares_tag(source, tag);
    int home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (home < 0 || unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        shares_reach(tag, read_only, BENCH) != 0)
        return -1;
    snprintf(path, sizeof path, BENCH "%s", file);
    int clone = shares_clone(path);
    return clone >= 0 && setns(home, CLONE_NEWNS) == 0 ? clone : -1;
}

/* The kernel's number for the mount that `target` lies on; -1: it cannot be told. */
static long mount_number(const char *target)
{
    char path[64], line[256];
    long number = -1;
    int fd = open(target, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return -1;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    FILE *told = fopen(path, "re");
    while (told != NULL && fgets(line, sizeof line, told) != NULL && sscanf(line, "mnt_id: %ld", &number) != 1) {
    }
    if (told != NULL)
        fclose(told);
    close(fd);
    return number;
}

static bool is_mounted(long number)
{
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    FILE *all = fopen("/proc/self/mountinfo", "re");
    while (all != NULL && !found && getline(&line, &size, all) > 0)
        found = strtol(line, NULL, 10) == number;
    if (all != NULL)
        fclose(all);
    free(line);
    return found;
}

int builtin_mount(char *const *argv)
{
    const char *target = argv[1], *source = argv[3];
    bool memory = strcmp(argv[2], "tmpfs") == 0, file = strcmp(argv[2], "file") == 0, read_only = strcmp(argv[5], "ro") == 0;
    int clone = -1;
    if (!memory && (clone = open_share(source, read_only)) < 0)
        return builtin_fault(source, errno);
    unsigned long flags = MS_NOSUID | MS_NODEV | (read_only ? MS_RDONLY : 0UL);
    if (shares_target(target, file) != 0 ||
        (memory ? mount("tmpfs", target, "tmpfs", flags, argv[4]) : shares_attach(clone, target)) != 0)
        return builtin_fault(target, errno);
    long number = mount_number(target);
    if (number < 0) { /* nobody could take it away again */
        umount2(target, MNT_DETACH);
        return builtin_fault("/proc/self/fdinfo", ENOENT);
    }
    printf("%ld\n", number);
    return 0;
}

int builtin_unmount(char *const *argv)
{
    const char *target = argv[1];
    long number = strtol(argv[2], NULL, 10);
    if (mount_number(target) == number)
        return umount2(target, 0) == 0 ? 0 : builtin_fault(target, errno);
    /* the workload may have unmounted it, or have mounted something over it */
    return is_mounted(number) ? builtin_fault(target, EBUSY) : 0;
}
