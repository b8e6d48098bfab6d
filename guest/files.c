/* Builtins for single files and directories. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "builtin.h"
#include "copy.h"
#include "record.h"

static bool is(const char *word, const char *expected)
{
    return strcmp(word, expected) == 0;
}

/* One file as a line; what vanished meanwhile is left out. */
static int tell(int directory, const char *path, const char *name, int flags)
{
    struct stat status;
    char target[PATH_MAX];
    if (fstatat(directory, path, &status, flags) != 0)
        return errno;
    record_open();
    record_string("name", name);
    record_status(&status);
    if (S_ISLNK(status.st_mode)) {
        ssize_t length = readlinkat(directory, path, target, sizeof target - 1);
        target[length > 0 ? length : 0] = '\0';
        record_string("target", target);
    }
    record_close();
    return 0;
}

int builtin_stat(char *const *argv)
{
    int error = tell(AT_FDCWD, argv[1], argv[1], is(argv[2], "follow") ? 0 : AT_SYMLINK_NOFOLLOW);
    return error != 0 ? builtin_fault(argv[1], error) : 0;
}

int builtin_list(char *const *argv)
{
    DIR *directory = opendir(argv[1]);
    if (directory == NULL)
        return builtin_fault(argv[1], errno);
    errno = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL; errno = 0) {
        if (is(entry->d_name, ".") || is(entry->d_name, ".."))
            continue;
        int error = tell(dirfd(directory), entry->d_name, entry->d_name, AT_SYMLINK_NOFOLLOW);
        if (error != 0 && error != ENOENT)
            return builtin_fault(entry->d_name, error);
    }
    return errno != 0 ? builtin_fault(argv[1], errno) : 0;
}

int builtin_mkdir(char *const *argv)
{
    char *path = argv[1];
    mode_t mode = (mode_t)strtoul(argv[2], NULL, 8);
    bool parents = is(argv[3], "parents");
    struct stat status;
    for (char *at = path + (path[0] == '/'); parents && (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        if (path[0] != '\0' && mkdir(path, 0777) != 0 && errno != EEXIST)
            return builtin_fault(path, errno);
        *at = '/';
    }
    if (mkdir(path, mode) == 0)
        return chmod(path, mode) == 0 ? 0 : builtin_fault(path, errno); /* whatever the umask */
    int error = errno;
    if (parents && error == EEXIST && stat(path, &status) == 0 && S_ISDIR(status.st_mode))
        return 0;
    return builtin_fault(path, error);
}

/* A directory that is being emptied: how to find the way back up, however deep it goes. */
struct level {
    struct level *above;
    dev_t device;
    ino_t inode;
    char name[NAME_MAX + 1];
};

/* Removes what is in the directory; `*below` gets the name of a first directory in it that is not empty. */
static int empty(int fd, char below[NAME_MAX + 1])
{
    below[0] = '\0';
    DIR *directory = fdopendir(fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (directory == NULL)
        return errno;
    rewinddir(directory);
    int error = 0;
    errno = 0;
    for (struct dirent *entry; error == 0 && (entry = readdir(directory)) != NULL; errno = 0) {
        const char *name = entry->d_name;
        if (is(name, ".") || is(name, "..") || unlinkat(fd, name, 0) == 0 || errno == ENOENT)
            continue;
        if ((errno == EISDIR || errno == EPERM) && (unlinkat(fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT))
            continue;
        if (errno != ENOTEMPTY && errno != EEXIST) {
            error = errno;
            break;
        }
        strcpy(below, name);
        break;
    }
    if (error == 0 && below[0] == '\0')
        error = errno;
    closedir(directory);
    return error;
}

static int descend(int *fd, struct level **levels, const char *name)
{
    struct stat status;
    struct level *level = malloc(sizeof *level);
    if (level == NULL || fstat(*fd, &status) != 0)
        return ENOMEM;
    *level = (struct level){.above = *levels, .device = status.st_dev, .inode = status.st_ino};
    strcpy(level->name, name);
    int next = openat(*fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0)
        return errno;
    close(*fd);
    *fd = next;
    *levels = level;
    return 0;
}

static int ascend(int *fd, struct level **levels)
{
    struct stat status;
    struct level *level = *levels;
    int up = openat(*fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (up < 0)
        return errno;
    close(*fd);
    *fd = up;
    /* somebody may have moved the directory meanwhile */
    if (fstat(up, &status) != 0 || status.st_dev != level->device || status.st_ino != level->inode)
        return EBUSY;
    if (unlinkat(up, level->name, AT_REMOVEDIR) != 0 && errno != ENOENT && errno != ENOTEMPTY)
        return errno;
    *levels = level->above;
    free(level);
    return 0;
}

/* Deeper trees than there are descriptors or path lengths are emptied too. */
static int remove_tree(const char *path)
{
    struct level *levels = NULL;
    char below[NAME_MAX + 1];
    int error, fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno;
    for (;;) {
        error = empty(fd, below);
        if (error == 0 && below[0] != '\0')
            error = descend(&fd, &levels, below);
        else if (error == 0 && levels != NULL)
            error = ascend(&fd, &levels);
        else
            break;
        if (error != 0)
            break;
    }
    close(fd);
    return error != 0 ? error : rmdir(path) == 0 ? 0 : errno;
}

int builtin_remove(char *const *argv)
{
    struct stat status;
    int error = 0;
    if (lstat(argv[1], &status) != 0)
        return builtin_fault(argv[1], errno);
    if (!S_ISDIR(status.st_mode))
        error = unlink(argv[1]) == 0 ? 0 : errno;
    else
        error = is(argv[2], "recursive") ? remove_tree(argv[1]) : rmdir(argv[1]) == 0 ? 0 : errno;
    return error != 0 ? builtin_fault(argv[1], error) : 0;
}

int builtin_rename(char *const *argv)
{
    struct stat status;
    if (rename(argv[1], argv[2]) == 0)
        return 0;
    int error = errno;
    return builtin_fault(lstat(argv[1], &status) != 0 ? argv[1] : argv[2], error);
}

int builtin_read(char *const *argv)
{
    struct stat status;
    int64_t offset = strtoll(argv[2], NULL, 10), length = strtoll(argv[3], NULL, 10);
    int fd = open(argv[1], O_RDONLY | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0)
        return builtin_fault(argv[1], errno);
    if (S_ISDIR(status.st_mode))
        return builtin_fault(argv[1], EISDIR);
    if (offset > 0 && lseek(fd, offset, SEEK_SET) < 0)
        return builtin_fault(argv[1], errno);
    return copy_bytes(fd, 1, length < 0 ? COPY_ALL : length) < 0 ? builtin_fault(argv[1], errno) : 0;
}

int builtin_write(char *const *argv)
{
    int how = is(argv[3], "append") ? O_APPEND : is(argv[3], "new") ? O_EXCL : O_TRUNC;
    int fd = open(argv[1], O_WRONLY | O_CREAT | O_NOCTTY | O_CLOEXEC | how, (mode_t)strtoul(argv[2], NULL, 8));
    if (fd < 0)
        return builtin_fault(argv[1], errno);
    if (copy_bytes(0, fd, COPY_ALL) < 0 || close(fd) != 0)
        return builtin_fault(argv[1], errno);
    return 0;
}
