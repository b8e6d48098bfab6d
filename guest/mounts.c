#include "mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "console.h"
#include "settle.h"

/* Layer directories have short names and are given relative to here, because mount options must fit one page. */
#define LAYERS "/l"
#define ROOT "/run/root"

static void make_directory(const char *path, mode_t mode)
{
    if (mkdir(path, mode) != 0 && errno != EEXIST)
        die_errno("cannot make directory %s in the initramfs", path);
}

void mounts_early(void)
{
    static const struct { const char *type, *path; } table[] = {{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}};
    int failed = -1, saved = 0;
    for (int i = 0; i < 3; i++) {
        mkdir(table[i].path, 0755);
        if (mount(table[i].type, table[i].path, table[i].type, MS_NOSUID, NULL) != 0 && errno != EBUSY && failed < 0) {
            failed = i;
            saved = errno;
        }
    }
    console_open();
    errno = saved;
    if (failed >= 0)
        die_errno("cannot mount %s", table[failed].path);
}

void mounts_disks(char *const *layers, int count, const char *writable)
{
    char path[64];
    make_directory(LAYERS, 0700);
    make_directory("/run", 0755);
    make_directory(MOUNTS_MACHINE, 0700);
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, LAYERS "/%d", i);
        make_directory(path, 0700);
        if (mount(layers[i], path, "ext4", MS_RDONLY | MS_NOATIME, NULL) != 0)
            die_errno("cannot mount layer %d of %d (%s)", i, count, layers[i]);
    }
    if (mount(writable, MOUNTS_MACHINE, "ext4", MS_NOATIME, NULL) != 0)
        die_errno("cannot mount the writable disk (%s)", writable);
    settle_disk(MOUNTS_MACHINE);
}

/* Stacks everything at ROOT.
 *
 * redirect_dir=on: rename of a directory that comes from a layer works instead of failing with EXDEV; the upper
 * directory is never used without its layers. metacopy=off: trust no metadata-only file that an image might forge.
 * index=off: the layers are mounted anew at each boot from disks whose identity the host guarantees.
 * xino=auto: one st_dev and stable inode numbers over all layers, or du, tar and find are misled.
 */
static void mount_overlay(int count)
{
    static const char tail[] = ",upperdir=" MOUNTS_MACHINE "/upper,workdir=" MOUNTS_MACHINE
                               "/work,redirect_dir=on,metacopy=off,index=off,xino=auto";
    char options[4096] = "lowerdir=";
    size_t used = strlen(options);
    for (int i = count - 1; i >= 0; i--) {
        int wrote = snprintf(options + used, sizeof options - used, "%d/tree%s", i, i > 0 ? ":" : "");
        if (wrote < 0 || (size_t)wrote >= sizeof options - used - sizeof tail)
            die("%d layers are more than one overlay takes", count);
        used += (size_t)wrote;
    }
    memcpy(options + used, tail, sizeof tail);
    if (chdir(LAYERS) != 0)
        die_errno("cannot enter " LAYERS);
    if (mount("overlay", ROOT, "overlay", 0, options) != 0)
        die_errno("cannot stack %d layers", count);
    /* The overlay holds the layers by itself from here on; nobody shall find them under another name. */
    for (int i = 0; i < count; i++) {
        char path[16];
        snprintf(path, sizeof path, "%d", i);
        umount2(path, MNT_DETACH);
    }
}

/* A directory of the new root, which is already the root here, so that no link can lead outside. */
static void require_directory(const char *path)
{
    struct stat status;
    if (mkdir(path, 0755) == 0)
        return;
    if (lstat(path, &status) != 0)
        die_errno("cannot make %s in the image", path);
    if (!S_ISDIR(status.st_mode))
        die("the image has a %s at %s, where a directory is needed", S_ISLNK(status.st_mode) ? "symbolic link" : "file", path);
}

static void mount_kernel_filesystems(void)
{
    static const struct {
        const char *type, *path, *options;
        unsigned long flags;
        bool needed;
    } table[] = {
        {"devtmpfs", "/dev", NULL, MS_NOSUID, true},
        {"proc", "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, true},
        {"sysfs", "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, true},
        {"devpts", "/dev/pts", "gid=5,mode=0620,ptmxmode=0666", MS_NOSUID | MS_NOEXEC, true},
        {"tmpfs", "/dev/shm", "mode=1777", MS_NOSUID | MS_NODEV, true},
        {"mqueue", "/dev/mqueue", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, false},
        {"cgroup2", "/sys/fs/cgroup", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, false},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i].needed)
            require_directory(table[i].path);
        else
            mkdir(table[i].path, 0755);
        if (mount(table[i].type, table[i].path, table[i].type, table[i].flags, table[i].options) != 0 && table[i].needed)
            die_errno("cannot mount %s", table[i].path);
    }
    (void)!symlink("/proc/self/fd", "/dev/fd");
    (void)!symlink("/proc/self/fd/0", "/dev/stdin");
    (void)!symlink("/proc/self/fd/1", "/dev/stdout");
    (void)!symlink("/proc/self/fd/2", "/dev/stderr");
}

void mounts_root(int count)
{
    make_directory(ROOT, 0755);
    if (count > 0)
        mount_overlay(count);
    else if (mount(MOUNTS_MACHINE "/upper", ROOT, NULL, MS_BIND, NULL) != 0)
        die_errno("cannot mount the writable disk's upper directory");
    int initramfs = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    settle_beneath(initramfs); /* before the move, as what fails from here on has to find the disk, too */
    if (initramfs < 0 || chdir(ROOT) != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 || chdir("/") != 0)
        die_errno("cannot make the image the root");
    mount_kernel_filesystems();
}
