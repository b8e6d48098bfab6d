/* The builtin `stats`: what the machine uses of what it has, as one line. */
#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "builtin.h"
#include "record.h"

#define MOST_PROCESSES 4096

static int64_t ticks_to_ms(unsigned long long ticks)
{
    return (int64_t)(ticks * 1000 / (unsigned long long)sysconf(_SC_CLK_TCK));
}

static void tell_cpu(void)
{
    unsigned long long user = 0, nice = 0, system = 0, idle = 0, wait = 0, interrupt = 0, soft = 0, steal = 0;
    FILE *file = fopen("/proc/stat", "re");
    if (file == NULL)
        return;
    if (fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &wait, &interrupt, &soft, &steal) == 8) {
        record_number("cpu_user_ms", ticks_to_ms(user + nice));
        record_number("cpu_system_ms", ticks_to_ms(system + interrupt + soft));
        record_number("cpu_idle_ms", ticks_to_ms(idle + wait));
        record_number("cpu_steal_ms", ticks_to_ms(steal));
    }
    fclose(file);
    record_number("cpus", sysconf(_SC_NPROCESSORS_ONLN));
}

static void tell_memory(void)
{
    static const struct { const char *line, *key; } wanted[] = {
        {"MemTotal:", "memory_total"}, {"MemFree:", "memory_free"}, {"MemAvailable:", "memory_available"},
        {"Cached:", "memory_cached"},  {"Shmem:", "memory_shared"},
    };
    char line[128];
    FILE *file = fopen("/proc/meminfo", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            if (strncmp(line, wanted[i].line, strlen(wanted[i].line)) == 0)
                record_number(wanted[i].key, strtoll(line + strlen(wanted[i].line), NULL, 10) * 1024);
    if (file != NULL)
        fclose(file);
}

static void tell_disk(void)
{
    struct statvfs status;
    if (statvfs("/", &status) != 0)
        return;
    record_number("disk_total", (int64_t)(status.f_blocks * status.f_frsize));
    record_number("disk_free", (int64_t)(status.f_bavail * status.f_frsize));
    record_number("inodes_total", (int64_t)status.f_files);
    record_number("inodes_free", (int64_t)status.f_favail);
}

static void tell_process(const char *pid)
{
    char path[64], text[1024], *name, *end, state;
    unsigned long long user, system;
    long parent, resident;
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    FILE *file = fopen(path, "re");
    size_t length = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file != NULL)
        fclose(file);
    text[length] = '\0';
    /* the name may hold anything, also parentheses */
    if ((name = strchr(text, '(')) == NULL || (end = strrchr(text, ')')) == NULL)
        return;
    *end = '\0';
    if (sscanf(end + 2, "%c %ld %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %*u %*u %ld", &state, &parent,
               &user, &system, &resident) != 5)
        return;
    char letter[2] = {state, '\0'};
    record_open();
    record_number("pid", atoi(pid));
    record_number("parent", parent);
    record_string("name", name + 1);
    record_string("state", letter);
    record_number("cpu_ms", ticks_to_ms(user + system));
    record_number("resident", resident * sysconf(_SC_PAGESIZE));
    record_close();
}

int builtin_stats(char *const *argv)
{
    (void)argv;
    int count = 0;
    double uptime = 0, load = 0;
    FILE *file = fopen("/proc/uptime", "re");
    if (file != NULL && fscanf(file, "%lf", &uptime) == 1)
        fclose(file);
    file = fopen("/proc/loadavg", "re");
    if (file != NULL && fscanf(file, "%lf", &load) == 1)
        fclose(file);
    record_open();
    record_number("uptime_ms", (int64_t)(uptime * 1000));
    record_number("load_permille", (int64_t)(load * 1000));
    tell_cpu();
    tell_memory();
    tell_disk();
    record_list("processes");
    DIR *directory = opendir("/proc");
    for (struct dirent *entry; directory != NULL && count < MOST_PROCESSES && (entry = readdir(directory)) != NULL;)
        if (isdigit((unsigned char)entry->d_name[0]) && atoi(entry->d_name) != getpid()) {
            tell_process(entry->d_name);
            count++;
        }
    record_list_end();
    record_close();
    return 0;
}
