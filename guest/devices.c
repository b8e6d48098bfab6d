#include "devices.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "console.h"
#include "wire.h"

#ifndef SYSFS /* tests make up others */
#define SYSFS "/sys"
#define DEV "/dev"
#endif
#define WAIT_MS 10000
#define BLOCK SYSFS "/class/block"
#define PORTS SYSFS "/class/virtio-ports"
#define HOSTS SYSFS "/class/scsi_host"
#define SCAN_MODE SYSFS "/module/scsi_mod/parameters/scan"
#define MOST_HOSTS 32
#define VIRTIO SYSFS "/bus/virtio/devices"
#define VIRTIO_ID_VSOCK 19

static const char *const controllers[] = {WIRE_SCSI_CONTROLLERS};
#define CONTROLLERS ((unsigned)(sizeof controllers / sizeof *controllers))

struct disk {
    unsigned controller;  /* SCSI: its place among `controllers`, CONTROLLERS when it is none of them */
    unsigned host, lun;   /* SCSI */
    char address[96];     /* virtio-blk: where it sits on the bus */
    char name[32];
    bool scsi;
};

static int events_fd = -1;

void devices_open(void)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
    events_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
    if (events_fd < 0 || bind(events_fd, (struct sockaddr *)&address, sizeof address) != 0)
        die_errno("cannot listen for device events");
}

void devices_close(void)
{
    close(events_fd);
    events_fd = -1;
}

bool devices_wait(uint64_t deadline)
{
    char event[4096];
    uint64_t now = now_ms();
    struct pollfd wanted = {.fd = events_fd, .events = POLLIN};
    if (now >= deadline || poll(&wanted, 1, (int)(deadline - now)) == 0)
        return false;
    while (recv(events_fd, event, sizeof event, 0) > 0 || errno == ENOBUFS)
        errno = 0;
    return true;
}

/* The place of a disk's controller among ours. `address` is .../<controller>/host0/target0:0:0/0:0:0:0; it is cut. */
static unsigned find_controller(char *address)
{
    for (int level = 0; level < 3; level++) {
        char *slash = strrchr(address, '/');
        if (slash != NULL)
            *slash = '\0';
    }
    const char *slash = strrchr(address, '/');
    unsigned place = 0;
    while (place < CONTROLLERS && (slash == NULL || strcasecmp(slash + 1, controllers[place]) != 0))
        place++;
    return place;
}

/* A disk is shown before it can be opened; an event follows when it can. */
static bool opens(const char *name)
{
    char path[DEVICES_PATH];
    snprintf(path, sizeof path, DEV "/%.50s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* Fills in the address of the block device `name`; false when it is no disk of ours. */
static bool describe(const char *name, struct disk *disk)
{
    char link[PATH_MAX], real[PATH_MAX];
    unsigned channel, target;
    if (strlen(name) >= sizeof disk->name)
        return false;
    /* .../0:0:0:0/block/sda, of which one call tells; partitions are further down */
    snprintf(link, sizeof link, BLOCK "/%s", name);
    ssize_t length = readlink(link, real, sizeof real - 1);
    real[length > 0 ? length : 0] = '\0';
    char *end = real;
    for (char *at = real; (at = strstr(at, "/block/")) != NULL; at++)
        end = at;
    if (strncmp(end, "/block/", 7) != 0 || strcmp(end + 7, name) != 0)
        return false;
    *end = '\0';
    strcpy(disk->name, name);
    char *base = strrchr(real, '/');
    if (base++ == NULL)
        return false;
    disk->scsi = sscanf(base, "%u:%u:%u:%u", &disk->host, &channel, &target, &disk->lun) == 4;
    if (disk->scsi) {
        disk->lun &= 0x3fff; /* from 256 on the kernel shows the flat addressing bit */
        disk->controller = find_controller(real);
        return channel == 0 && target == 0 && strncmp(name, "sd", 2) == 0 && opens(name);
    }
    if (strncmp(base, "virtio", 6) != 0)
        return false;
    /* .../0000:00:03.0/virtio1: the directory above has a fixed width, so text order is bus order */
    base[-1] = '\0';
    const char *above = strrchr(real, '/');
    snprintf(disk->address, sizeof disk->address, "%.95s", above != NULL ? above + 1 : real);
    return opens(name);
}

static int compare(const void *left, const void *right)
{
    const struct disk *a = left, *b = right;
    if (a->scsi != b->scsi)
        return a->scsi ? -1 : 1;
    if (!a->scsi)
        return strcmp(a->address, b->address);
    if (a->controller != b->controller)
        return a->controller < b->controller ? -1 : 1;
    if (a->host != b->host)
        return a->host < b->host ? -1 : 1;
    return (a->lun > b->lun) - (a->lun < b->lun);
}

static int scan(struct disk *disks, int most)
{
    int found = 0;
    DIR *directory = opendir(BLOCK);
    if (directory == NULL)
        return 0; /* no block device yet */
    for (struct dirent *entry; found < most && (entry = readdir(directory)) != NULL;)
        if (entry->d_name[0] != '.' && describe(entry->d_name, &disks[found]))
            found++;
    closedir(directory);
    qsort(disks, (size_t)found, sizeof *disks, compare);
    return found;
}

/* How many disks of our controllers there are from the first one on, without a gap: each is filled before the next. */
static int count_filled(const struct disk *disks, int found)
{
    int have = 0;
    while (have < found && disks[have].scsi && disks[have].controller == (unsigned)have / WIRE_SCSI_LUNS &&
           disks[have].lun == (unsigned)have % WIRE_SCSI_LUNS)
        have++;
    return have;
}

/* The first of `count` disks that belong together among `found` sorted ones, or NULL; `have` is how many are there. */
static const struct disk *choose(const struct disk *disks, int found, int count, int *have)
{
    *have = 0;
    if (found > 0 && disks[0].scsi && disks[0].controller < CONTROLLERS) {
        *have = count_filled(disks, found);
        return *have >= count ? disks : NULL;
    }
    if (found > 0 && !disks[0].scsi) {
        *have = found;
        return found == count ? disks : NULL;
    }
    for (int i = 0; i < found && disks[i].scsi; i++) {
        int run = 0;
        while (i + run < found && disks[i + run].scsi && disks[i + run].host == disks[i].host && disks[i + run].lun == (unsigned)run)
            run++;
        if (run > *have)
            *have = run;
        if (run >= count)
            return disks + i;
    }
    return NULL;
}

static bool read_line(const char *path, char *line, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, line, size - 1);
    if (fd >= 0)
        close(fd);
    line[length > 0 ? length : 0] = '\0';
    line[strcspn(line, "\n")] = '\0';
    return length > 0;
}

/* Where the kernel leaves it to us (scsi_mod.scan=manual), looks for disks on hosts that are new: on target 0 only.
 *
 * By itself it would ask for 255 more targets, one after the other.
 */
static void scan_hosts(void)
{
    static bool scanned[MOST_HOSTS];
    char text[32];
    unsigned number;
    DIR *directory = read_line(SCAN_MODE, text, sizeof text) && strcmp(text, "manual") == 0 ? opendir(HOSTS) : NULL;
    if (directory == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char path[64];
        if (sscanf(entry->d_name, "host%u", &number) != 1 || number >= MOST_HOSTS || scanned[number])
            continue;
        snprintf(path, sizeof path, HOSTS "/host%u/scan", number);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
            continue; /* its file comes later, with an event of its own */
        scanned[number] = write(fd, "0 0 -", 5) == 5;
        close(fd);
    }
    closedir(directory);
}

/* What there is now. */
static int look(struct disk *disks, int most)
{
    scan_hosts();
    return scan(disks, most);
}

void devices_disks(char (*paths)[DEVICES_PATH], int count)
{
    static struct disk disks[2 * DEVICES_LAYERS];
    uint64_t deadline = now_ms() + WAIT_MS;
    const struct disk *chosen;
    int have;
    while ((chosen = choose(disks, look(disks, 2 * DEVICES_LAYERS), count, &have)) == NULL)
        if (!devices_wait(deadline))
            die("only %d of %d disks appeared within %d s: a driver or a disk is missing", have, count, WAIT_MS / 1000);
    for (int i = 0; i < count; i++)
        snprintf(paths[i], DEVICES_PATH, "/dev/%s", chosen[i].name);
}

bool devices_port(const char *name, char path[DEVICES_PATH])
{
    bool found = false;
    DIR *directory = opendir(PORTS);
    if (directory == NULL)
        return false;
    for (struct dirent *entry; !found && (entry = readdir(directory)) != NULL;) {
        char file[PATH_MAX], text[128] = "";
        snprintf(file, sizeof file, PORTS "/%s/name", entry->d_name);
        if (!read_line(file, text, sizeof text))
            continue; /* its name comes later, with an event of its own */
        found = strcmp(text, name) == 0 && strlen(entry->d_name) < DEVICES_PATH - 6;
        if (found)
            snprintf(path, DEVICES_PATH, "/dev/%.50s", entry->d_name);
    }
    closedir(directory);
    return found;
}

/* Whether a directory has an entry that `fits`. */
static bool has_entry(const char *path, bool (*fits)(const char *name))
{
    bool found = false;
    DIR *directory = opendir(path);
    if (directory == NULL)
        return false;
    for (struct dirent *entry; !found && (entry = readdir(directory)) != NULL;)
        found = entry->d_name[0] != '.' && fits(entry->d_name);
    closedir(directory);
    return found;
}

static bool is_any(const char *name)
{
    (void)name;
    return true;
}

static bool is_vmbus(const char *name)
{
    return strncasecmp(name, "VMBUS:", 6) == 0 || strncmp(name, "MSFT1000:", 9) == 0;
}

static bool is_virtio_vsock(const char *name)
{
    char path[PATH_MAX];
    unsigned id = 0;
    snprintf(path, sizeof path, VIRTIO "/%s/device", name);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    bool read = fscanf(file, "%x", &id) == 1;
    fclose(file);
    return read && id == VIRTIO_ID_VSOCK;
}

bool devices_vmbus(void)
{
    static int known = -1;
    if (known < 0)
        known = has_entry(SYSFS "/bus/vmbus/devices", is_any) || has_entry(SYSFS "/bus/acpi/devices", is_vmbus);
    return known > 0;
}

bool devices_vsock(void)
{
    return devices_vmbus() || has_entry(VIRTIO, is_virtio_vsock);
}
