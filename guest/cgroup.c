#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROOT "/sys/fs/cgroup"
#define GROUP ROOT "/workload"

static int group_fd = -1;

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)!write(fd, text, strlen(text));
    close(fd);
}

static int64_t most_of_all(void)
{
    char text[24] = "";
    int fd = open("/proc/sys/kernel/threads-max", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!read(fd, text, sizeof text - 1);
        close(fd);
    }
    return atoll(text) * 3 / 4;
}

void cgroup_open(int64_t most_tasks)
{
    static const char *const controllers[] = {"+cpu", "+memory", "+pids", "+io"};
    char text[24];
    if (mkdir(GROUP, 0755) != 0 && errno != EEXIST)
        return;
    for (size_t i = 0; i < sizeof controllers / sizeof *controllers; i++)
        put(ROOT "/cgroup.subtree_control", controllers[i]); /* one by one: a kernel may lack some */
    if (most_tasks <= 0)
        most_tasks = most_of_all();
    if (most_tasks > 0) {
        snprintf(text, sizeof text, "%" PRId64, most_tasks);
        put(GROUP "/pids.max", text);
    }
    group_fd = open(GROUP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

pid_t cgroup_fork(void)
{
    struct clone_args arguments = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)group_fd};
    if (group_fd >= 0) {
        /* not musl's fork: there are no other threads and no handlers that it would care for */
        pid_t pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
        if (pid >= 0 || (errno != ENOSYS && errno != E2BIG && errno != EINVAL))
            return pid;
        close(group_fd);
        group_fd = -1;
    }
    return fork();
}

bool cgroup_is_empty(void)
{
    char text[128] = "";
    int fd = open(GROUP "/cgroup.events", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return true;
    (void)!read(fd, text, sizeof text - 1);
    close(fd);
    return strstr(text, "populated 0") != NULL;
}
