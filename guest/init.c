/* PID 1 of every propolis guest: boots any image without help from it, then becomes the agent. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"
#include "cgroup.h"
#include "console.h"
#include "devices.h"
#include "harden.h"
#include "identity.h"
#include "modules.h"
#include "mounts.h"
#include "namespace.h"
#include "shares.h"
#include "spec.h"
#include "transport.h"
#include "wire.h"

/* A workload that takes all processors still lets the host in. */
#define AGENT_NICE (-10)
#define CONFIG MOUNTS_MACHINE "/.propolis_init.json"

static struct spec config;
static char disks[DEVICES_LAYERS + 1][DEVICES_PATH];

/* The number after propolis.layers= on the kernel's command line. */
static int count_layers(void)
{
    static const char option[] = "propolis.layers=";
    char line[4096];
    int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
    if (length < 0)
        die_errno("cannot read the kernel's command line");
    close(fd);
    line[length] = '\0';
    char *rest = NULL;
    for (char *word = strtok_r(line, " \n", &rest); word != NULL; word = strtok_r(NULL, " \n", &rest)) {
        if (strncmp(word, option, strlen(option)) != 0)
            continue;
        char *end;
        long layers = strtol(word + strlen(option), &end, 10);
        if (*end != '\0' || end == word + strlen(option) || layers < 0 || layers > DEVICES_LAYERS)
            die("the kernel's command line has a bad %s", word);
        return (int)layers;
    }
    die("the kernel's command line has no %s", option);
}

static void read_config(int layers)
{
    struct stat status;
    int fd = open(CONFIG, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &status) != 0)
        die_errno("cannot open /.propolis_init.json on the writable disk");
    if (!S_ISREG(status.st_mode) || status.st_size > WIRE_MAX_DOCUMENT)
        die("/.propolis_init.json is not a regular file of at most %d bytes", WIRE_MAX_DOCUMENT);
    size_t size = (size_t)status.st_size, length = 0;
    char *text = malloc(size + 1);
    if (text == NULL)
        die("no memory for /.propolis_init.json");
    for (ssize_t got; length < size && (got = read(fd, text + length, size - length)) > 0;)
        length += (size_t)got;
    close(fd);
    const char *error = spec_parse(&config, SPEC_INIT, text, length);
    free(text);
    if (error != NULL)
        die("/.propolis_init.json is not valid: %s", error);
    if (strlen(config.hostname) > 64)
        die("the host name is longer than 64 bytes");
    if (config.layers >= 0 && config.layers != layers)
        die("the command line names %d layers, /.propolis_init.json %lld", layers, (long long)config.layers);
}

static void mount_disks(int layers)
{
    char *paths[DEVICES_LAYERS];
    devices_disks(disks, layers + 1);
    for (int i = 0; i < layers; i++)
        paths[i] = disks[i];
    mounts_disks(paths, layers, disks[layers]);
}

int main(void)
{
    struct agent_stamps stamps = {.init = now_ms()};
    struct rlimit files = {.rlim_cur = 65536, .rlim_max = 1048576};
    if (getpid() != 1) {
        fputs("propolis-init: only runs as the first process of a machine\n", stderr);
        return 1;
    }
    umask(022);
    mounts_early();
    setrlimit(RLIMIT_NOFILE, &files);
    int layers = count_layers();
    devices_open();
    modules_load("/modules/load");
    if (devices_vmbus())
        modules_load("/modules/load.hyperv");
    mount_disks(layers);
    stamps.disks = now_ms();
    read_config(layers);
    harden_seed(config.seed);
    int port = transport_open();
    devices_close();
    shares_open(&config);
    mounts_root(layers);
    shares_mount(&config);
    stamps.root = now_ms();
    identity_name(config.hostname);
    identity_resolver(config.resolver);
    identity_loopback();
    harden_sysctls(config.sysctls);
    cgroup_open(config.most_tasks);
    if (!config.unmasked)
        harden_sys();
    if (config.read_only)
        harden_root();
    if (config.own_pids) /* with a copy of the mounts, and a /proc of its own */
        namespace_open(config.unmasked);
    else if (!config.unmasked)
        harden_proc();
    setpriority(PRIO_PROCESS, 0, AGENT_NICE);
    agent_serve(port, &config, &stamps);
}
