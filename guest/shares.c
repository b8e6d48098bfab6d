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

int mount(const char *, const char *, const char *, unsigned long, const void *);

static int opened[SPEC_MOUNTS];

static bool is(const struct spec_mount *mount, const char *type)
{
    return strcmp(mount->type, type) == 0;
}

/* Hyper-V serves all shares at one port, each mount over a connection of its own, told apart by the name attached to. */
static int mount_over_vsock(const char *tag, const char *place, unsigned long flags)
{
    char options[256];
    int fd = vsock_dial(WIRE_SHARE_PORT, HYPERV_SIZE, now_ms() + HYPERV_WAIT_MS);
    if (fd < 0)
        die_errno("cannot reach the host's shares at vsock port %d", WIRE_SHARE_PORT);
    snprintf(options, sizeof options, "trans=fd,rfdno=%d,wfdno=%d,msize=%d,aname=%s," COMMON, fd, fd, HYPERV_SIZE, tag);
    int result = mount(tag, place, "9p", flags, options);
    int saved = errno;
    close(fd); /* the mount holds it by itself */
    errno = saved;
    return result;
}

static int mount_over_virtio(const char *tag, const char *place, unsigned long flags)
{
    return mount(tag, place, "9p", flags, "trans=virtio,msize=524288," COMMON);
}

/* The mount of one share, once, at its place in the initramfs. */
static void reach(const char *tag, bool read_only, char place[PATH_MAX])
{
    snprintf(place, PATH_MAX, PLACE "/%.64s", tag);
    mkdir(PLACE, 0700);
    if (mkdir(place, 0700) != 0 && errno == EEXIST)
        return;
    unsigned long flags = MS_NODEV | (read_only ? MS_RDONLY : 0UL);
    if ((devices_vmbus() ? mount_over_vsock : mount_over_virtio)(tag, place, flags) != 0)
        die_errno("cannot mount the share %s", tag);
}

void shares_open(const struct spec *spec)
{
    bool loaded = false;
    for (int i = 0; i < spec->mount_count; i++) {
        const struct spec_mount *wanted = &spec->mounts[i];
        char tag[80], place[PATH_MAX], path[2 * PATH_MAX];
        opened[i] = -1;
        if (is(wanted, "tmpfs"))
            continue;
        if (!loaded)
            modules_load(devices_vmbus() ? "/modules/load.hyperv-shares" : "/modules/load.shares");
        loaded = true;
        const char *file = strchr(wanted->source, '/');
        snprintf(tag, sizeof tag, "%.*s", (int)(file != NULL ? file - wanted->source : 64), wanted->source);
        reach(tag, wanted->read_only, place);
        snprintf(path, sizeof path, "%s%s", place, file != NULL ? file : "");
        opened[i] = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
        if (opened[i] < 0)
            die_errno("cannot open the share %s", wanted->source);
    }
}

/* A directory or an empty file at the target, parents included. */
static void make_target(const struct spec_mount *wanted)
{
    char path[PATH_MAX];
    struct stat status;
    bool file = is(wanted, "file");
    if ((size_t)snprintf(path, sizeof path, "%s", wanted->target) >= sizeof path)
        die("a mount's target is too long");
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
        die_errno("cannot make %s for a mount", path);
    if (S_ISDIR(status.st_mode) == file)
        die("the image has a %s at %s, where a %s is to be mounted", file ? "directory" : "file", path, file ? "file" : "directory");
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
        if (syscall(SYS_move_mount, opened[i], "", AT_FDCWD, wanted->target, MOVE_MOUNT_F_EMPTY_PATH) != 0)
            die_errno("cannot mount the share %s at %s", wanted->source, wanted->target);
        close(opened[i]);
        if (wanted->read_only && mount(NULL, wanted->target, NULL, MS_REMOUNT | MS_BIND | MS_NODEV | MS_RDONLY, NULL) != 0)
            die_errno("cannot make %s read-only", wanted->target);
    }
}
