#include "namespace.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cgroup.h"
#include "console.h"
#include "harden.h"

static pid_t first;
static int own_pids = -1, pids = -1, mounts = -1;

/* The first process of the namespace: everything without parents becomes its child, and is forgotten when it ends. */
static _Noreturn void reap(bool unmasked, int ready)
{
    /* what is mounted later comes here too, and nothing goes back */
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0 ||
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
        die_errno("cannot mount the workload's own /proc");
    if (!unmasked)
        harden_proc();
    signal(SIGCHLD, SIG_IGN);
    (void)!write(ready, "", 1);
    syscall(SYS_close_range, 0, ~0U, 0);
    for (;;)
        pause();
}

static int open_namespace(pid_t pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die_errno("cannot open the %s namespace", name);
    return fd;
}

void namespace_open(bool unmasked)
{
    struct clone_args arguments = {.flags = CLONE_NEWPID | CLONE_NEWNS, .exit_signal = SIGCHLD};
    int ready[2];
    char byte;
    if (pipe2(ready, O_CLOEXEC) != 0)
        die_errno("cannot make a pipe");
    if (mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL) != 0)
        die_errno("cannot share mounts with the workload");
    first = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    if (first == 0)
        reap(unmasked, ready[1]);
    close(ready[1]);
    if (first < 0 || read(ready[0], &byte, 1) != 1)
        die_errno("cannot make a process namespace");
    close(ready[0]);
    own_pids = open_namespace(getpid(), "pid");
    pids = open_namespace(first, "pid");
    mounts = open_namespace(first, "mnt");
}

pid_t namespace_fork(void)
{
    if (first == 0)
        return cgroup_fork();
    if (setns(pids, CLONE_NEWPID) != 0)
        return -1;
    pid_t pid = cgroup_fork();
    if (pid == 0 && setns(mounts, CLONE_NEWNS) != 0)
        _exit(127);
    if (pid != 0)
        setns(own_pids, CLONE_NEWPID);
    return pid;
}

bool namespace_finish(void)
{
    if (first == 0)
        return false;
    if (cgroup_is_empty()) {
        kill(first, SIGKILL);
        first = 0;
    }
    return first != 0;
}
