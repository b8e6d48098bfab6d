#include "harden.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "console.h"

#define MOST_SEED 256

void harden_seed(const char *seed)
{
    /* struct rand_pool_info: bits, bytes, then the bytes */
    int pool[2 + MOST_SEED / sizeof(int)], count = 0;
    uint8_t *bytes = (uint8_t *)(pool + 2);
    unsigned byte;
    for (; count < MOST_SEED && sscanf(seed, "%2x", &byte) == 1; seed += 2)
        bytes[count++] = (uint8_t)byte;
    if (count == 0)
        return;
    pool[0] = 8 * count;
    pool[1] = count;
    int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, RNDADDENTROPY, pool) != 0)
        console_say("cannot seed the kernel's random numbers");
    if (fd >= 0)
        close(fd);
}

/* False with errno. */
static bool set(const char *name, size_t length, const char *value)
{
    char path[256];
    snprintf(path, sizeof path, "/proc/sys/%.*s", (int)length, name);
    for (char *at = path + strlen("/proc/sys/"); *at != '\0'; at++)
        *at = *at == '.' ? '/' : *at;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t wrote = write(fd, value, strlen(value));
    int saved = errno;
    close(fd);
    errno = saved;
    return wrote >= 0;
}

void harden_sysctls(char *const *sysctls)
{
    static const struct { const char *name, *value; } ours[] = {
        {"fs.protected_fifos", "1"},           {"fs.protected_hardlinks", "1"},
        {"fs.protected_regular", "2"},         {"fs.protected_symlinks", "1"},
        {"kernel.dmesg_restrict", "1"},        {"kernel.kptr_restrict", "2"},
        {"kernel.perf_event_paranoid", "3"},   {"kernel.unprivileged_bpf_disabled", "1"},
        {"net.ipv4.ip_unprivileged_port_start", "0"}, /* the network is the machine's own */
        {"net.ipv4.ping_group_range", "0 2147483647"},
    };
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        set(ours[i].name, strlen(ours[i].name), ours[i].value); /* a kernel may lack some */
    for (; *sysctls != NULL; sysctls++) {
        const char *equals = strchr(*sysctls, '=');
        if (equals == NULL || !set(*sysctls, (size_t)(equals - *sysctls), equals + 1))
            die_errno("cannot set the kernel parameter %s", *sysctls);
    }
}

static void hide(const char *const *paths, size_t count)
{
    struct stat status;
    for (size_t i = 0; i < count; i++) {
        if (lstat(paths[i], &status) != 0)
            continue;
        int failed = S_ISDIR(status.st_mode)
                         ? mount("tmpfs", paths[i], "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=0")
                         : mount("/dev/null", paths[i], NULL, MS_BIND, NULL);
        if (failed)
            die_errno("cannot hide %s", paths[i]);
    }
}

#define FROZEN (MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)

void harden_proc(void)
{
    static const char *const hidden[] = {"/proc/acpi", "/proc/asound", "/proc/kcore",      "/proc/keys",       "/proc/latency_stats",
                                         "/proc/sched_debug", "/proc/scsi",  "/proc/timer_list", "/proc/timer_stats"};
    static const char *const frozen[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    struct stat status;
    hide(hidden, sizeof hidden / sizeof *hidden);
    for (size_t i = 0; i < sizeof frozen / sizeof *frozen; i++) {
        if (lstat(frozen[i], &status) != 0)
            continue;
        if (mount(frozen[i], frozen[i], NULL, MS_BIND | MS_REC, NULL) != 0 || mount(NULL, frozen[i], NULL, FROZEN, NULL) != 0)
            die_errno("cannot make %s read-only", frozen[i]);
    }
}

void harden_sys(void)
{
    static const char *const hidden[] = {"/sys/firmware", "/sys/devices/virtual/powercap"};
    hide(hidden, sizeof hidden / sizeof *hidden);
    if (mount(NULL, "/sys", NULL, FROZEN, NULL) != 0)
        die_errno("cannot make /sys read-only");
    mount(NULL, "/sys/fs/cgroup", NULL, FROZEN, NULL); /* where there is one */
}

void harden_root(void)
{
    if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) != 0)
        die_errno("cannot make the root read-only");
}
