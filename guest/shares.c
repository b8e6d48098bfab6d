#include "shares.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "console.h"
#include "devices.h"
#include "modules.h"
#include "vsock.h"
#include "wire.h"

#define PLACE "/f"
#define MS_RDONLY 1
#define MS_NOSUID 2
#define MS_NODEV 4
#define MS_REMOUNT 32
#define MS_BIND 4096
/* mmap of shared files works; everything else goes to the host at once, so that both sides see the same. */
#define COMMON "version=9p2000.L,cache=mmap"
#define HYPERV_SIZE 65536 /* of a message, and of each of the socket's buffers */
#define HYPERV_WAIT_MS 5000
#define HYPERV_AGAIN_US 20000

int mount(const char *, const char *, const char *, unsigned long, const void *);

static int opened[SPEC_MOUNTS];

static bool is(const struct spec_mount *mount, const char *type)
{
    return strcmp(mount->type, type) == 0;
}

/* Hyper-V serves all shares at one port, each mount over a connection of its own, told apart by the name attached to. */
static int attach_over_vsock(const char *tag, const char *place, unsigned long flags, uint64_t deadline)
{
    char options[256];
    int fd = vsock_dial(WIRE_SHARE_PORT, HYPERV_SIZE, deadline);
    if (fd < 0)
        return -1;
    snprintf(options, sizeof options, "trans=fd,rfdno=%d,wfdno=%d,msize=%d,aname=%s," COMMON, fd, fd, HYPERV_SIZE, tag);
    int result = mount(tag, place, "9p", flags, options);
    int saved = errno;
    close(fd); /* the mount holds it by itself */
    errno = saved;
    return result;
}

/* The host shows its directories once the machine runs, so a name may not be known yet; the driver comes with the kernel. */
static int mount_over_vsock(const char *tag, const char *place, unsigned long flags)
{
    uint64_t deadline = now_ms() + HYPERV_WAIT_MS;
    int result;
    while ((result = attach_over_vsock(tag, place, flags, deadline)) != 0 && errno != ENODEV && now_ms() < deadline)
        usleep(HYPERV_AGAIN_US);
    return result;
}

static int mount_over_virtio(const char *tag, const char *place, unsigned long flags)
{
    return mount(tag, place, "9p", flags, "trans=virtio,msize=524288," COMMON);
}

int shares_reach(const char *tag, bool read_only, const char *place)
{
    unsigned long flags = MS_NODEV | (read_only ? MS_RDONLY : 0UL);
    return (devices_vmbus() ? mount_over_vsock : mount_over_virtio)(tag, place, flags);
}

/* The mount of one share, once, at its place in the initramfs. */
static void reach(const char *tag, bool read_only, char place[PATH_MAX])
{
    snprintf(place, PATH_MAX, PLACE "/%.64s", tag);
    mkdir(PLACE, 0700);
    if (mkdir(place, 0700) != 0 && errno == EEXIST)
        return;
    if (shares_reach(tag, read_only, place) != 0)
        die_errno("cannot mount the share %s", tag);
}

static bool has_shares(const struct spec *spec)
{
    for (int i = 0; i < spec->mount_count; i++)
        if (!is(&spec->mounts[i], "tmpfs"))
            return true;
    return spec->later_shares;
}

const char *shares_tag(const char *source, char tag[SHARES_TAG])
{
    const char *file = strchr(source, '/');
    snprintf(tag, SHARES_TAG, "%.*s", (int)(file != NULL ? file - source : SHARES_TAG), source);
    return file != NULL ? file : "";
}

void shares_open(const struct spec *spec)
{
    if (has_shares(spec))
        modules_load(devices_vmbus() ? "/modules/load.hyperv-shares" : "/modules/load.shares");
    for (int i = 0; i < spec->mount_count; i++) {
        const struct spec_mount *wanted = &spec->mounts[i];
        char tag[SHARES_TAG], place[PATH_MAX], path[2 * PATH_MAX];
        opened[i] = -1;
        if (is(wanted, "tmpfs"))
            continue;
        const char *file = shares_tag(wanted->source, tag);
        reach(tag, wanted->read_only, place);
        snprintf(path, sizeof path, "%s%s", place, file);
        opened[i] = shares_clone(path);
        if (opened[i] < 0)
            die_errno("cannot open the share %s", wanted->source);
    }
}

int shares_clone(const char *path)
{
    return (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
}

int shares_attach(int clone, const char *target)
{
    unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS;
    return (int)syscall(SYS_move_mount, clone, "", AT_FDCWD, target, flags);
}

int shares_target(const char *target, bool file)
{
    char path[PATH_MAX];
    struct stat status;
    if ((size_t)snprintf(path, sizeof path, "%s", target) >= sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    for (char *at = path + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        mkdir(path, 0755);
        *at = '/';
    }
    if (!file) {
        mkdir(path, 0755);
    } else {
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (fd >= 0)
            close(fd);
    }
    if (stat(path, &status) != 0)
        return -1;
    errno = file ? EISDIR : ENOTDIR;
    return S_ISDIR(status.st_mode) == file ? -1 : 0;
}

static void make_target(const struct spec_mount *wanted)
{
    struct stat status;
    bool file = is(wanted, "file");
    if (shares_target(wanted->target, file) == 0)
        return;
    if ((errno == EISDIR || errno == ENOTDIR) && stat(wanted->target, &status) == 0)
        die("the image has a %s at %s, where a %s is to be mounted", file ? "directory" : "file", wanted->target,
            file ? "file" : "directory");
    die_errno("cannot make %s for a mount", wanted->target);
}

void shares_mount(const struct spec *spec)
{
    for (int i = 0; i < spec->mount_count; i++) {
        const struct spec_mount *wanted = &spec->mounts[i];
        unsigned long read_only = wanted->read_only ? MS_RDONLY : 0;
        make_target(wanted);
        if (is(wanted, "tmpfs")) {
            if (mount("tmpfs", wanted->target, "tmpfs", MS_NOSUID | MS_NODEV | read_only, wanted->options) != 0)
                die_errno("cannot mount a tmpfs at %s", wanted->target);
            continue;
        }
        if (shares_attach(opened[i], wanted->target) != 0)
            die_errno("cannot mount the share %s at %s", wanted->source, wanted->target);
        close(opened[i]);
        if (wanted->read_only && mount(NULL, wanted->target, NULL, MS_REMOUNT | MS_BIND | MS_NODEV | MS_RDONLY, NULL) != 0)
            die_errno("cannot make %s read-only", wanted->target);
    }
}
