#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wire.h"

/* execve said ENOENT although `path` exists: what it needs to run is missing. */
static void explain_missing(const char *path, char *text, size_t size)
{
    char head[257] = "";
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, head, sizeof head - 1) : 0;
    if (fd >= 0)
        close(fd);
    if (got > 2 && head[0] == '#' && head[1] == '!') {
        const char *line_end = head[strcspn(head, "\r\n")] == '\r' ? " (its first line ends in a carriage return)" : "";
        char *name = head + 2 + strspn(head + 2, " \t");
        name[strcspn(name, " \t\r\n")] = '\0';
        snprintf(text, size, "%.512s: its interpreter %s is not in the image%s", path, name, line_end);
        return;
    }
    snprintf(text, size, "%.512s: the program loader (ld.so) that it needs is not in the image", path);
}

/* Tries one path. Returns 0 when the search may go on, otherwise a verdict in `text`. */
static uint32_t try_path(const char *path, char *const *argv, char *const *env, char *text, size_t size)
{
    struct stat status;
    execve(path, argv, env);
    int error = errno;
    switch (error) {
    case ENOENT:
        if (stat(path, &status) != 0)
            return 0;
        explain_missing(path, text, size);
        return FAILURE_NOT_FOUND;
    case ENOTDIR:
        return 0;
    case EACCES:
    case EISDIR:
        if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
            snprintf(text, size, "%.512s: is a directory", path);
        else
            snprintf(text, size, "%.512s: permission denied", path);
        return FAILURE_NOT_EXECUTABLE;
    case ENOEXEC:
        snprintf(text, size, "%.512s: exec format error: neither a program for this architecture nor a script with #!", path);
        return FAILURE_NOT_EXECUTABLE;
    case E2BIG:
        snprintf(text, size, "%.512s: argument list too long", path);
        return FAILURE_INVALID;
    case ENOMEM:
    case EAGAIN:
        snprintf(text, size, "%.512s: %s", path, strerror(error));
        return FAILURE_RESOURCES;
    default:
        snprintf(text, size, "%.512s: %s", path, strerror(error));
        return FAILURE_NOT_EXECUTABLE;
    }
}

static const char *search_path(char *const *env)
{
    for (; *env != NULL; env++)
        if (strncmp(*env, "PATH=", 5) == 0)
            return *env + 5;
    return "";
}

uint32_t program_execute(char *const *argv, char *const *env, char *text, size_t size)
{
    const char *name = argv[0];
    char path[PATH_MAX];
    if (strchr(name, '/') != NULL) {
        uint32_t verdict = try_path(name, argv, env, text, size);
        if (verdict == 0)
            snprintf(text, size, "%.512s: no such file in the image", name);
        return verdict != 0 ? verdict : (uint32_t)FAILURE_NOT_FOUND;
    }
    uint32_t refused = 0;
    for (const char *at = search_path(env), *end; at != NULL; at = *end == ':' ? end + 1 : NULL) {
        end = at + strcspn(at, ":");
        int length = snprintf(path, sizeof path, "%.*s%s%s", (int)(end - at), at, end > at ? "/" : "./", name);
        if (length < 0 || (size_t)length >= sizeof path)
            continue;
        uint32_t verdict = try_path(path, argv, env, text, size);
        if (verdict == FAILURE_NOT_EXECUTABLE)
            refused = verdict; /* a later directory may have one that runs; otherwise this text stands */
        else if (verdict != 0)
            return verdict;
    }
    if (refused == 0)
        snprintf(text, size, "%.512s: not found in PATH (%.1024s)", name, search_path(env));
    return refused != 0 ? refused : (uint32_t)FAILURE_NOT_FOUND;
}
