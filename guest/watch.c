/* The builtin `watch`: what happens to files, one line for each event, until it is killed. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "builtin.h"
#include "record.h"

#define WANTED \
    (IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_MOVE_SELF | IN_ATTRIB)

static const struct {
    uint32_t mask;
    const char *name;
} names[] = {
    {IN_CREATE, "created"},          {IN_DELETE, "removed"},       {IN_DELETE_SELF, "removed"},
    {IN_MODIFY, "modified"},         {IN_CLOSE_WRITE, "written"},  {IN_MOVED_FROM, "moved_from"},
    {IN_MOVED_TO, "moved_to"},       {IN_MOVE_SELF, "moved_from"}, {IN_ATTRIB, "attributes"},
    {IN_Q_OVERFLOW, "overflowed"},
};

/* The path of each watch, by its descriptor. */
static char **paths;
static int room;

static bool remember(int watch, const char *path)
{
    if (watch >= room) {
        int larger = watch * 2 + 16;
        char **grown = realloc(paths, (size_t)larger * sizeof *paths);
        if (grown == NULL)
            return false;
        memset(grown + room, 0, (size_t)(larger - room) * sizeof *grown);
        paths = grown;
        room = larger;
    }
    free(paths[watch]);
    return (paths[watch] = strdup(path)) != NULL;
}

/* Watches a path and, if asked, the directories below it. Returns an errno; what vanishes meanwhile is none. */
static int add(int fd, const char *path, bool recursive, int depth)
{
    int watch = inotify_add_watch(fd, path, WANTED | IN_DONT_FOLLOW | IN_EXCL_UNLINK);
    if (watch < 0)
        return depth > 0 && errno == ENOENT ? 0 : errno;
    if (!remember(watch, path))
        return ENOMEM;
    DIR *directory = recursive ? opendir(path) : NULL;
    if (directory == NULL)
        return 0;
    int error = 0;
    for (struct dirent *entry; error == 0 && (entry = readdir(directory)) != NULL;) {
        char below[PATH_MAX];
        if (entry->d_type != DT_DIR || strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if ((size_t)snprintf(below, sizeof below, "%s/%s", path, entry->d_name) < sizeof below)
            error = add(fd, below, true, depth + 1);
    }
    closedir(directory);
    return error;
}

static void tell(const struct inotify_event *event)
{
    const char *directory = event->wd >= 0 && event->wd < room && paths[event->wd] != NULL ? paths[event->wd] : "";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[PATH_MAX];
        if ((event->mask & names[i].mask) == 0)
            continue;
        snprintf(path, sizeof path, event->len > 0 ? "%s/%s" : "%s", directory, event->name);
        record_open();
        record_string("event", names[i].name);
        record_string("path", path);
        record_number("directory", (event->mask & IN_ISDIR) != 0);
        record_close();
    }
}

static void follow(int fd, const struct inotify_event *event)
{
    char path[PATH_MAX];
    if ((event->mask & IN_ISDIR) == 0 || (event->mask & (IN_CREATE | IN_MOVED_TO)) == 0 || event->wd >= room)
        return;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", paths[event->wd], event->name) < sizeof path)
        add(fd, path, true, 1);
}

int builtin_watch(char *const *argv)
{
    bool recursive = strcmp(argv[2], "recursive") == 0;
    static char buffer[65536] __attribute__((aligned(8)));
    int fd = inotify_init1(IN_CLOEXEC);
    int error = fd < 0 ? errno : add(fd, argv[1], recursive, 0);
    if (error != 0)
        return builtin_fault(argv[1], error);
    record_open(); /* from here on nothing is missed */
    record_string("event", "watching");
    record_string("path", argv[1]);
    record_number("directory", 0);
    record_close();
    fflush(stdout);
    for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;) {
        for (char *at = buffer; at < buffer + got;) {
            const struct inotify_event *event = (const struct inotify_event *)at;
            tell(event);
            if (recursive)
                follow(fd, event);
            at += sizeof *event + event->len;
        }
        if (fflush(stdout) != 0)
            return errno;
    }
    return errno;
}
