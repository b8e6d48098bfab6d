/* The builtin `archive`: a file or a tree becomes a tar on standard output. Sockets are left out. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "builtin.h"
#include "copy.h"
#include "tar.h"

#define OUTPUT (256 * 1024)
#define SMALL 65536
#define MOST_EXTENTS 65536
#define OCTAL7 2097151
#define OCTAL11 8589934591

/* Files of several names, found again by their inode. */
struct linked {
    dev_t device;
    ino_t inode;
    char *path;
};

static struct {
    char extended[TAR_MOST_EXTENDED];
    size_t used;
    struct linked *linked;
    size_t room, count;
    int64_t extents[MOST_EXTENTS + 1][2];
    char path[PATH_MAX], told[PATH_MAX];
    int fault; /* the first, which does not end the rest */
} job;

static void note(int error)
{
    if (job.fault == 0) {
        job.fault = error;
        strcpy(job.told, job.path);
    }
}

static void pad(int64_t size)
{
    static const char zeros[TAR_BLOCK];
    fwrite(zeros, 1, (size_t)((TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK), stdout);
}

/* Appends one pax record: its length counts itself. */
static bool record(const char *key, const char *suffix, const void *value, size_t length)
{
    size_t body = strlen(key) + strlen(suffix) + length + 3, digits = 1;
    char number[24];
    while ((size_t)snprintf(number, sizeof number, "%zu", body + digits) > digits)
        digits++;
    if (body + digits > sizeof job.extended - job.used - 1)
        return false;
    char *at = job.extended + job.used;
    at += sprintf(at, "%zu %s%s=", body + digits, key, suffix);
    memcpy(at, value, length);
    at[length] = '\n';
    job.used += body + digits;
    return true;
}

static void record_number(const char *key, int64_t value)
{
    char text[24];
    record(key, "", text, (size_t)snprintf(text, sizeof text, "%" PRId64, value));
}

static void put_octal(char *field, size_t size, uint64_t value, uint64_t most)
{
    snprintf(field, size, "%0*" PRIo64, (int)size - 1, value <= most ? value : 0);
}

static void put_header(const char *name, char type, const struct stat *status, int64_t size, const char *link)
{
    struct tar_header header;
    unsigned sum = 0;
    memset(&header, 0, sizeof header);
    memcpy(header.name, name, strnlen(name, sizeof header.name));
    memcpy(header.link, link, strnlen(link, sizeof header.link));
    put_octal(header.mode, sizeof header.mode, status->st_mode & 07777, 07777);
    put_octal(header.uid, sizeof header.uid, status->st_uid, OCTAL7);
    put_octal(header.gid, sizeof header.gid, status->st_gid, OCTAL7);
    put_octal(header.size, sizeof header.size, (uint64_t)size, OCTAL11);
    put_octal(header.mtime, sizeof header.mtime, status->st_mtim.tv_sec > 0 ? (uint64_t)status->st_mtim.tv_sec : 0, OCTAL11);
    put_octal(header.major, sizeof header.major, major(status->st_rdev), OCTAL7);
    put_octal(header.minor, sizeof header.minor, minor(status->st_rdev), OCTAL7);
    header.type = type;
    memcpy(header.magic, "ustar", 6);
    memcpy(header.version, "00", 2);
    memset(header.checksum, ' ', sizeof header.checksum);
    for (size_t i = 0; i < sizeof header; i++)
        sum += ((unsigned char *)&header)[i];
    snprintf(header.checksum, sizeof header.checksum, "%06o", sum);
    fwrite(&header, sizeof header, 1, stdout);
}

static void put_member(char type, const struct stat *status, int64_t size, const char *link)
{
    char text[48];
    int64_t second = status->st_mtim.tv_sec;
    long nano = status->st_mtim.tv_nsec;
    bool negative = second < 0 && nano > 0;
    int length = snprintf(text, sizeof text, "%s%" PRId64 ".%09ld", negative && second == -1 ? "-" : "", negative ? second + 1 : second,
                          negative ? 1000000000 - nano : nano);
    record("mtime", "", text, (size_t)length);
    if (strlen(job.path) > sizeof ((struct tar_header *)NULL)->name)
        record("path", "", job.path, strlen(job.path));
    if (strlen(link) > sizeof ((struct tar_header *)NULL)->link)
        record("linkpath", "", link, strlen(link));
    if (status->st_uid > OCTAL7)
        record_number("uid", status->st_uid);
    if (status->st_gid > OCTAL7)
        record_number("gid", status->st_gid);
    if (size > OCTAL11)
        record_number("size", size);
    put_header("pax", 'x', &(struct stat){.st_mode = 0600}, (int64_t)job.used, "");
    fwrite(job.extended, 1, job.used, stdout);
    pad((int64_t)job.used);
    put_header(job.path, type, status, size, link);
    job.used = 0;
}

static void add_xattrs(int directory, const char *name)
{
    static char names[65536], value[65536];
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", directory, name);
    ssize_t length = llistxattr(path, names, sizeof names);
    for (const char *at = names; length > 0 && at < names + length; at += strlen(at) + 1) {
        ssize_t size = lgetxattr(path, at, value, sizeof value);
        if (size >= 0 && !record(TAR_XATTR, at, value, (size_t)size))
            note(E2BIG);
    }
}

/* The path under which this file has been told before, or NULL; then it is remembered. */
static const char *known(const struct stat *status)
{
    if (job.count * 2 >= job.room) {
        size_t room = job.room == 0 ? 1024 : job.room * 4;
        struct linked *table = calloc(room, sizeof *table);
        if (table == NULL)
            return NULL; /* told twice is better than not at all */
        for (size_t i = 0; i < job.room; i++) {
            size_t at = job.linked[i].inode % room;
            while (job.linked[i].path != NULL && table[at].path != NULL)
                at = (at + 1) % room;
            if (job.linked[i].path != NULL)
                table[at] = job.linked[i];
        }
        free(job.linked);
        job.linked = table;
        job.room = room;
    }
    size_t at = status->st_ino % job.room;
    for (; job.linked[at].path != NULL; at = (at + 1) % job.room)
        if (job.linked[at].inode == status->st_ino && job.linked[at].device == status->st_dev)
            return job.linked[at].path;
    job.linked[at] = (struct linked){.device = status->st_dev, .inode = status->st_ino, .path = strdup(job.path)};
    job.count += job.linked[at].path != NULL;
    return NULL;
}

/* `length` bytes from where `fd` stands; a file that has become shorter is filled up with zeros, and said. */
static void put_content(int fd, int64_t length)
{
    static char buffer[SMALL];
    if (length > SMALL) {
        fflush(stdout);
        int64_t moved = copy_bytes(fd, 1, length);
        length -= moved > 0 ? moved : 0;
    } else {
        ssize_t got = copy_in(fd, buffer, (size_t)length);
        if (got > 0) {
            fwrite(buffer, 1, (size_t)got, stdout);
            length -= got;
        }
    }
    if (length > 0)
        note(ESTALE);
    memset(buffer, 0, sizeof buffer);
    for (; length > 0; length -= SMALL)
        fwrite(buffer, 1, (size_t)(length < SMALL ? length : SMALL), stdout);
}

/* Where data lies; -1 for a file without holes, or with too many. */
static int find_extents(int fd, const struct stat *status, int64_t *stored)
{
    int count = 0;
    *stored = 0;
    if ((int64_t)status->st_blocks * 512 >= status->st_size)
        return -1;
    for (int64_t at = 0; at < status->st_size;) {
        int64_t data = lseek(fd, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        int64_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
        if (hole < 0 || count == MOST_EXTENTS)
            return -1;
        job.extents[count][0] = data;
        job.extents[count++][1] = hole - data;
        *stored += hole - data;
        at = hole;
    }
    if (*stored == status->st_size)
        return -1;
    if (count == 0 || job.extents[count - 1][0] + job.extents[count - 1][1] < status->st_size) {
        job.extents[count][0] = status->st_size; /* GNU tar learns only from it that the file ends with a hole */
        job.extents[count++][1] = 0;
    }
    return count;
}

static void put_sparse(int fd, const struct stat *status, int count, int64_t stored)
{
    int64_t length = snprintf(NULL, 0, "%d\n", count);
    for (int i = 0; i < count; i++)
        length += snprintf(NULL, 0, "%" PRId64 "\n%" PRId64 "\n", job.extents[i][0], job.extents[i][1]);
    record_number("GNU.sparse.major", 1);
    record_number("GNU.sparse.minor", 0);
    record("GNU.sparse.name", "", job.path, strlen(job.path));
    record_number("GNU.sparse.realsize", status->st_size);
    int64_t map = (length + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    put_member('0', status, map + stored, "");
    fprintf(stdout, "%d\n", count);
    for (int i = 0; i < count; i++)
        fprintf(stdout, "%" PRId64 "\n%" PRId64 "\n", job.extents[i][0], job.extents[i][1]);
    pad(length);
    for (int i = 0; i < count; i++) {
        if (lseek(fd, job.extents[i][0], SEEK_SET) < 0)
            note(errno);
        put_content(fd, job.extents[i][1]);
    }
    pad(map + stored);
}

static void put_file(int directory, const char *name)
{
    struct stat status;
    int64_t stored;
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        note(fd < 0 ? errno : ESTALE);
        job.used = 0;
        if (fd >= 0)
            close(fd);
        return;
    }
    int count = find_extents(fd, &status, &stored);
    if (count >= 0) {
        put_sparse(fd, &status, count, stored);
    } else {
        lseek(fd, 0, SEEK_SET);
        put_member('0', &status, status.st_size, "");
        put_content(fd, status.st_size);
        pad(status.st_size);
    }
    close(fd);
}

static void put_tree(int parent, const char *name);

static void put_below(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL) {
        note(errno);
        return;
    }
    size_t length = strlen(job.path);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (length + 1 + strlen(entry->d_name) >= sizeof job.path) {
            note(ENAMETOOLONG);
            continue;
        }
        job.path[length] = '/';
        strcpy(job.path + length + 1, entry->d_name);
        put_tree(dirfd(directory), entry->d_name);
        job.path[length] = '\0';
    }
    closedir(directory);
}

/* One entry, whose path is in the job, and what is below it. */
static void put_tree(int parent, const char *name)
{
    struct stat status;
    char target[PATH_MAX] = "";
    if (fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        note(errno);
        return;
    }
    if (S_ISSOCK(status.st_mode))
        return;
    const char *before = !S_ISDIR(status.st_mode) && status.st_nlink > 1 ? known(&status) : NULL;
    if (before != NULL) {
        put_member('1', &status, 0, before);
        return;
    }
    add_xattrs(parent, name);
    if (S_ISREG(status.st_mode)) {
        put_file(parent, name);
    } else if (S_ISLNK(status.st_mode)) {
        if (readlinkat(parent, name, target, sizeof target - 1) < 0)
            note(errno);
        put_member('2', &status, 0, target);
    } else if (S_ISDIR(status.st_mode)) {
        put_member('5', &status, 0, "");
        put_below(parent, name);
    } else {
        put_member(S_ISCHR(status.st_mode) ? '3' : S_ISBLK(status.st_mode) ? '4' : '6', &status, 0, "");
    }
}

int builtin_archive(char *const *argv)
{
    static char real[PATH_MAX], end[2 * TAR_BLOCK];
    struct rlimit files;
    struct stat status;
    setvbuf(stdout, NULL, _IOFBF, OUTPUT);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* a descriptor for each level */
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    const char *path = argv[1];
    if (strcmp(argv[2], "follow") == 0 && (path = realpath(path, real)) == NULL)
        return builtin_fault(argv[1], errno);
    if (lstat(path, &status) != 0)
        return builtin_fault(argv[1], errno);
    strcpy(job.path, ".");
    put_tree(AT_FDCWD, path);
    fwrite(end, 1, sizeof end, stdout);
    if (fflush(stdout) != 0)
        return errno;
    return job.fault != 0 ? builtin_fault(job.told, job.fault) : 0;
}
