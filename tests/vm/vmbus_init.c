/* Makes a QEMU machine look to the guest's init as one of Hyper-V does, then becomes that init (/real/init).
 *
 * The disks' controller is named as a VMBus instance in a made-up part of sysfs, the virtio-serial port is hidden, and CID
 * 2 of the kernel's vsock loopback is the host: port 1024 leads to the hidden port, port 564 to diod, an independent 9P
 * server: here, where it sees the machine's virtio-9p shares, or on the host behind the port of a share that was added
 * since (tests/hcs/plan9.py). As under Hyper-V a share is attached to by its tag.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "wire.h"

#define EXPORTS "/export"
#define FAKE_BUS "/sys/bus/vmbus/devices/%s/host0/target0:0:0/0:0:0:%u"
#define LATE_US 300000
#define MOST_DISKS 32
#define MOST_MESSAGE 66000
#define TVERSION 100
#define RVERSION 101
#define TATTACH 104
#define RLERROR 7

static const char *const controllers[] = {WIRE_SCSI_CONTROLLERS};

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "vmbus_init: %s: %s\n", what, strerror(errno));
    exit(1); /* which panics the kernel, and so ends the machine */
}

static void make_directories(const char *format, const char *name, unsigned number)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, format, name, number);
    for (char *at = path + 1; (at = strchr(at, '/')) != NULL; *at++ = '/') {
        *at = '\0';
        mkdir(path, 0755);
    }
    mkdir(path, 0755);
}

static void load(const char *directory, const char *listed)
{
    char name[256], path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", directory, listed);
    FILE *list = fopen(path, "re");
    if (list == NULL)
        fail(path);
    while (fscanf(list, "%255s", name) == 1) {
        snprintf(path, sizeof path, "%s/%s", directory, name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST))
            fail(path);
        close(fd);
    }
    fclose(list);
}

/* What init loads where it finds a VMBus, without the drivers that refuse to be loaded where there is none. */
static void soften(const char *path)
{
    char text[4096] = "", name[256];
    size_t used = 0;
    FILE *list = fopen(path, "re");
    if (list == NULL)
        fail(path);
    while (fscanf(list, "%255s", name) == 1)
        if (strncmp(name, "hv_", 3) != 0)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s\n", name);
    fclose(list);
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd < 0 || write(fd, text, used) != (ssize_t)used)
        fail(path);
    close(fd);
}

static void hide(const char *directory)
{
    if (mount("tmpfs", directory, "tmpfs", 0, NULL) != 0)
        fail(directory);
}

static bool read_line(char *line, int size, const char *format, const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, format, name);
    FILE *file = fopen(path, "re");
    bool done = file != NULL && fgets(line, size, file) != NULL;
    if (file != NULL)
        fclose(file);
    line[done ? strcspn(line, "\n") : 0] = '\0';
    return done;
}

/* -1: there is none yet. */
static int open_port(const char *wanted, int most_tries)
{
    for (int tries = 0; tries < most_tries; tries++) {
        DIR *directory = opendir("/sys/class/virtio-ports");
        for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
            char name[128], path[300];
            read_line(name, sizeof name, "/sys/class/virtio-ports/%s/name", entry->d_name);
            if (strcmp(name, wanted) != 0)
                continue;
            snprintf(path, sizeof path, "/dev/%s", entry->d_name);
            int fd = open(path, O_RDWR | O_CLOEXEC);
            if (fd < 0)
                fail(path);
            closedir(directory);
            return fd;
        }
        if (directory != NULL)
            closedir(directory);
        usleep(20000);
    }
    return -1;
}

static void mount_shares(void)
{
    mkdir(EXPORTS, 0755);
    DIR *directory = opendir("/sys/bus/virtio/drivers/9pnet_virtio");
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        char tag[64], place[100];
        if (!read_line(tag, sizeof tag, "/sys/bus/virtio/drivers/9pnet_virtio/%s/mount_tag", entry->d_name))
            continue;
        snprintf(place, sizeof place, EXPORTS "/%s", tag);
        mkdir(place, 0755);
        if (mount(tag, place, "9p", 0, "trans=virtio,version=9p2000.L,msize=65536") != 0)
            fail(place);
    }
    if (directory != NULL)
        closedir(directory);
}

struct disk {
    char name[32];
    unsigned lun;
};

static int find_disks(struct disk *disks)
{
    int count = 0;
    DIR *directory = opendir("/sys/class/block");
    for (struct dirent *entry; directory != NULL && count < MOST_DISKS && (entry = readdir(directory)) != NULL;) {
        char link[300], real[PATH_MAX];
        snprintf(link, sizeof link, "/sys/class/block/%s/device", entry->d_name);
        if (realpath(link, real) == NULL || sscanf(strrchr(real, '/'), "/%*u:0:0:%u", &disks[count].lun) != 1)
            continue;
        snprintf(disks[count++].name, sizeof disks->name, "%.31s", entry->d_name);
    }
    if (directory != NULL)
        closedir(directory);
    return count;
}

static void disguise_disks(void)
{
    struct disk disks[MOST_DISKS];
    char line[4096];
    const char *layers = read_line(line, sizeof line, "/proc/%s", "cmdline") ? strstr(line, "propolis.layers=") : NULL;
    int count, wanted = layers != NULL ? atoi(strchr(layers, '=') + 1) + 1 : MOST_DISKS;
    for (int tries = 0; (count = find_disks(disks)) < wanted; tries++, usleep(20000))
        if (tries == 500)
            fail("no disks");
    hide("/sys/bus");
    hide("/sys/class/block");
    for (int i = 0; i < count; i++) {
        char target[PATH_MAX], link[100];
        make_directories(FAKE_BUS, controllers[0], disks[i].lun);
        snprintf(link, sizeof link, "/sys/class/block/%s", disks[i].name);
        int length = snprintf(target, sizeof target, FAKE_BUS, controllers[0], disks[i].lun);
        snprintf(target + length, sizeof target - (size_t)length, "/block/%s", disks[i].name);
        if (symlink(target, link) != 0)
            fail(link);
    }
}

static bool read_all(int fd, void *data, size_t length)
{
    for (char *at = data; length > 0;) {
        ssize_t got = read(fd, at, length);
        if (got <= 0)
            return false;
        at += got;
        length -= (size_t)got;
    }
    return true;
}

static bool write_all(int fd, const void *data, size_t length)
{
    for (const char *at = data; length > 0;) {
        ssize_t wrote = write(fd, at, length);
        if (wrote <= 0)
            return false;
        at += wrote;
        length -= (size_t)wrote;
    }
    return true;
}

static _Noreturn void copy(int from, int to)
{
    static char buffer[65536];
    for (ssize_t got; (got = read(from, buffer, sizeof buffer)) > 0;)
        if (!write_all(to, buffer, (size_t)got))
            break;
    shutdown(to, SHUT_RDWR);
    exit(0);
}

static int listen_at(unsigned port)
{
    struct sockaddr_vm here = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof here) != 0 || listen(fd, 8) != 0)
        fail("cannot listen");
    return fd;
}

static void serve_agent(int port)
{
    usleep(LATE_US); /* a host may be late */
    int listener = listen_at(WIRE_VSOCK_PORT);
    int stream = accept(listener, NULL, NULL);
    close(listener); /* one guest, one connection */
    if (fork() == 0)
        copy(port, stream);
    copy(stream, port);
}

static uint32_t get(const uint8_t *at, int size)
{
    uint32_t value = 0;
    while (size-- > 0)
        value = value << 8 | at[size];
    return value;
}

static size_t read_message(int from, uint8_t *message)
{
    if (!read_all(from, message, 4))
        return 0;
    size_t size = get(message, 4);
    return size >= 7 && size <= MOST_MESSAGE && read_all(from, message + 4, size - 4) ? size : 0;
}

/* Where the name of what is attached to stands in an attach: after fid, afid and the user's name; its length comes first. */
static uint8_t *attach_name(uint8_t *message)
{
    return message + 7 + 8 + 2 + get(message + 15, 2);
}

/* The name in an attach becomes a path; returns the new size. */
static size_t below_exports(uint8_t *message, size_t size)
{
    uint8_t *name = attach_name(message);
    size_t added = strlen(EXPORTS "/");
    memmove(name + 2 + added, name + 2, size - (size_t)(name + 2 - message));
    memcpy(name + 2, EXPORTS "/", added);
    name[0] = (uint8_t)(name[0] + added);
    message[0] = (uint8_t)(size + added);
    return size + added;
}

static int start_server(void)
{
    int pair[2];
    char number[16];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        fail("socketpair");
    if (fork() == 0) {
        snprintf(number, sizeof number, "%d", pair[1]);
        execl("/usr/sbin/diod", "diod", "-f", "-n", "-c", "/dev/null", "-L", "stderr", "-e", EXPORTS, "-r", number, "-w",
              number, NULL);
        fail("diod");
    }
    close(pair[1]);
    return pair[0];
}

/* One connection to the shares. Who serves it stands in the attach, which comes after the client has heard of the server's
 * version: it is told what it has asked for, and the server is asked again. */
static _Noreturn void serve_share(int stream)
{
    static uint8_t version[MOST_MESSAGE + 100], message[MOST_MESSAGE + 100], answer[MOST_MESSAGE];
    char tag[64], place[100], port[100];
    size_t asked = read_message(stream, version), size;
    if (asked == 0 || version[4] != TVERSION)
        exit(1);
    version[4] = RVERSION;
    if (!write_all(stream, version, asked) || (size = read_message(stream, message)) == 0 || message[4] != TATTACH)
        exit(1);
    uint8_t *name = attach_name(message);
    snprintf(tag, sizeof tag, "%.*s", (int)get(name, 2), (char *)name + 2);
    snprintf(place, sizeof place, EXPORTS "/%s", tag);
    snprintf(port, sizeof port, "share.%s", tag);
    bool here = access(place, F_OK) == 0;
    int server = here ? start_server() : open_port(port, 1);
    if (server < 0) { /* a name that the host does not know, or not yet */
        const uint8_t refusal[] = {11, 0, 0, 0, RLERROR, message[5], message[6], ENOENT, 0, 0, 0};
        write_all(stream, refusal, sizeof refusal);
        exit(0);
    }
    version[4] = TVERSION;
    if (!write_all(server, version, asked) || read_message(server, answer) == 0)
        exit(1);
    if (fork() == 0)
        copy(server, stream);
    do {
        if (here && message[4] == TATTACH)
            size = below_exports(message, size);
        if (!write_all(server, message, size))
            break;
    } while ((size = read_message(stream, message)) != 0);
    shutdown(server, SHUT_RDWR);
    kill(0, SIGKILL); /* all that serves this connection: what still reads from a port keeps it open */
    exit(0);
}

static void serve_shares(int listener)
{
    for (int stream; (stream = accept(listener, NULL, NULL)) >= 0; close(stream))
        if (fork() == 0) {
            setpgid(0, 0);
            serve_share(stream);
        }
    fail("accept");
}

int main(void)
{
    static const char *const kernel[][2] = {{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}};
    for (int i = 0; i < 3; i++) {
        mkdir(kernel[i][1], 0755);
        if (mount(kernel[i][0], kernel[i][1], kernel[i][0], 0, NULL) != 0 && errno != EBUSY)
            fail(kernel[i][1]);
    }
    load("/modules", "load");
    load("/modules", "load.shares");
    load("/standin", "load");
    soften("/modules/load.hyperv");
    int port = open_port(WIRE_PORT_NAME, 500);
    if (port < 0)
        fail("no port");
    mount_shares();
    int shares = listen_at(WIRE_SHARE_PORT);
    signal(SIGTERM, SIG_IGN); /* the host does not end with its guest */
    /* and sees what the guest does not, from its first moment: what follows is hidden from all who are here by then */
    if (syscall(SYS_clone, CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0) == 0)
        serve_shares(shares);
    disguise_disks();
    hide("/sys/class/virtio-ports");
    if (access("/standin/silent", F_OK) != 0 && fork() == 0)
        serve_agent(port);
    signal(SIGTERM, SIG_DFL);
    execl("/real/init", "init", NULL);
    fail("/real/init");
}
