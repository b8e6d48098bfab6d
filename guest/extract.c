/* The builtin `extract`: a tar on standard input becomes files below a directory. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "builtin.h"
#include "copy.h"
#include "tar.h"

#define BUFFER (64 * 1024)
#define MOST_SPARSE (1 << 20)
#define PIECE (256 * 1024)
#define LARGE (1024 * 1024)

/* One member, its pax records applied. Strings live in the header's block or in the extended header. */
struct member {
    char name[PATH_MAX], link[PATH_MAX];
    char type;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    int64_t size, real_size;
    struct timespec mtime;
    unsigned major, minor;
    bool sparse;
};

struct deferred {
    struct deferred *before;
    struct timespec mtime;
    char path[];
};

static struct {
    int directory;
    bool own;
    uid_t uid;
    gid_t gid;
    struct deferred *directories;
    char buffer[BUFFER];
    size_t start, end;
    char *extended; /* the pax header of the next member */
    size_t extended_length;
    char told[PATH_MAX]; /* whom an error is about */
} job;

/* Exactly `length` bytes; an archive that ends sooner is an error. */
static int take(void *data, size_t length)
{
    char *at = data;
    while (length > 0) {
        if (job.start == job.end) {
            bool past = length >= sizeof job.buffer; /* more than the buffer goes past it */
            ssize_t got = read(0, past ? at : job.buffer, past ? length : sizeof job.buffer);
            if (got < 0 && errno == EINTR)
                continue;
            if (got <= 0)
                return got < 0 ? errno : EPIPE;
            if (past) {
                at += got;
                length -= (size_t)got;
                continue;
            }
            job.start = 0;
            job.end = (size_t)got;
        }
        size_t piece = job.end - job.start < length ? job.end - job.start : length;
        memcpy(at, job.buffer + job.start, piece);
        job.start += piece;
        at += piece;
        length -= piece;
    }
    return 0;
}

static int skip(int64_t length)
{
    char block[TAR_BLOCK];
    int error = 0;
    for (; error == 0 && length > 0; length -= TAR_BLOCK)
        error = take(block, (size_t)(length < TAR_BLOCK ? length : TAR_BLOCK));
    return error;
}

static int64_t padding(int64_t size)
{
    return (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
}

/* Past the page cache, whose upkeep would cost more than the copy: large files in whole pieces. False: not here. */
static bool set_direct(int fd, bool direct)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

/* `length` bytes of content to where `fd` stands. */
static int take_content(int fd, int64_t length)
{
    static char piece[PIECE] __attribute__((aligned(4096)));
    bool direct = length >= LARGE && set_direct(fd, true);
    while (length > 0) {
        size_t size = length < PIECE ? (size_t)length : PIECE;
        int error = take(piece, size);
        if (error != 0)
            return error;
        if (direct && size < PIECE)
            direct = !set_direct(fd, false);
        if (copy_out(fd, piece, size) != 0) {
            if (!direct || errno != EINVAL || !set_direct(fd, false)) /* it does not lie on a boundary, or cannot */
                return errno;
            direct = false;
            if (copy_out(fd, piece, size) != 0)
                return errno;
        }
        length -= (int64_t)size;
    }
    return 0;
}

static uint64_t octal(const char *field, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size && field[i] >= '0' && field[i] <= '7'; i++)
        value = value * 8 + (uint64_t)(field[i] - '0');
    return value;
}

static struct timespec seconds(const char *text)
{
    char *end;
    long long whole = strtoll(text, &end, 10);
    long nanoseconds = 0, unit = 100000000;
    bool negative = text[0] == '-';
    for (const char *at = end + 1; *end == '.' && *at >= '0' && *at <= '9' && unit > 0; at++, unit /= 10)
        nanoseconds += (*at - '0') * unit;
    if (negative && nanoseconds > 0) {
        whole -= 1;
        nanoseconds = 1000000000 - nanoseconds;
    }
    return (struct timespec){.tv_sec = whole, .tv_nsec = nanoseconds};
}

/* The next pax record at `*at`, cut into key and value; false at the end or where it is broken. */
static bool next_record(char **at, char *end, char **key, char **value, size_t *length)
{
    char *rest;
    if (*at >= end)
        return false;
    unsigned long size = strtoul(*at, &rest, 10);
    char *equals = memchr(rest, '=', (size_t)(end - rest));
    if (*rest != ' ' || size == 0 || size > (size_t)(end - *at) || equals == NULL || equals >= *at + size || (*at)[size - 1] != '\n')
        return false;
    *key = rest + 1;
    *value = equals + 1;
    *length = (size_t)(*at + size - 1 - *value);
    *at += size;
    return true;
}

static void keep(char *out, const char *value, size_t length)
{
    snprintf(out, PATH_MAX, "%.*s", (int)(length < PATH_MAX ? length : PATH_MAX), value);
}

static void apply(struct member *member, const char *key, const char *value, size_t length)
{
    size_t size = strcspn(key, "=");
#define IS(word) (size == strlen(word) && strncmp(key, word, size) == 0)
    if (IS("path") || IS("GNU.sparse.name"))
        keep(member->name, value, length);
    else if (IS("linkpath"))
        keep(member->link, value, length);
    else if (IS("size"))
        member->size = strtoll(value, NULL, 10);
    else if (IS("uid"))
        member->uid = (uid_t)strtoul(value, NULL, 10);
    else if (IS("gid"))
        member->gid = (gid_t)strtoul(value, NULL, 10);
    else if (IS("mtime"))
        member->mtime = seconds(value);
    else if (IS("GNU.sparse.realsize"))
        member->real_size = strtoll(value, NULL, 10);
    else if (IS("GNU.sparse.major"))
        member->sparse = true;
#undef IS
}

/* The next member; *end after the last one. */
static int next_member(struct member *member, bool *end)
{
    struct tar_header header;
    int error;
    for (;;) {
        if ((error = take(&header, sizeof header)) != 0)
            return error;
        if (header.name[0] == '\0' && header.type == '\0') {
            *end = true;
            return 0;
        }
        if (memcmp(header.magic, "ustar", 5) != 0)
            return EBADMSG;
        int64_t size = (int64_t)octal(header.size, sizeof header.size);
        if (header.type != 'x')
            break;
        if (size > TAR_MOST_EXTENDED || (job.extended == NULL && (job.extended = malloc(TAR_MOST_EXTENDED + 1)) == NULL))
            return E2BIG;
        if ((error = take(job.extended, (size_t)size)) != 0 || (error = skip(padding(size))) != 0)
            return error;
        job.extended[size] = '\0';
        job.extended_length = (size_t)size;
    }
    *member = (struct member){
        .type = header.type,
        .mode = (mode_t)(octal(header.mode, sizeof header.mode) & 07777),
        .uid = (uid_t)octal(header.uid, sizeof header.uid),
        .gid = (gid_t)octal(header.gid, sizeof header.gid),
        .size = (int64_t)octal(header.size, sizeof header.size),
        .mtime = {.tv_sec = (time_t)octal(header.mtime, sizeof header.mtime)},
        .major = (unsigned)octal(header.major, sizeof header.major),
        .minor = (unsigned)octal(header.minor, sizeof header.minor),
    };
    keep(member->name, header.name, strnlen(header.name, sizeof header.name));
    keep(member->link, header.link, strnlen(header.link, sizeof header.link));
    char *at = job.extended, *key, *value;
    for (size_t length; job.extended_length > 0 && next_record(&at, job.extended + job.extended_length, &key, &value, &length);)
        apply(member, key, value, length);
    if (!member->sparse)
        member->real_size = member->size;
    return member->size < 0 || member->real_size < 0 ? EBADMSG : 0;
}

/* Only what stays below the directory: no absolute path, no "..". */
static bool is_below(const char *path)
{
    if (path[0] == '/' || path[0] == '\0')
        return false;
    for (const char *at = path; at != NULL; at = strchr(at, '/') != NULL ? strchr(at, '/') + 1 : NULL)
        if (strncmp(at, "..", 2) == 0 && (at[2] == '/' || at[2] == '\0'))
            return false;
    return true;
}

/* Makes way for a new file: whatever has the name goes, but for a directory that is not empty. */
static int make_way(const char *path)
{
    if (unlinkat(job.directory, path, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return errno;
    return unlinkat(job.directory, path, AT_REMOVEDIR) == 0 ? 0 : errno;
}

static int sparse_number(char *line, size_t size, int64_t *stored, int64_t *value)
{
    size_t used = 0;
    for (;;) {
        int error = take(line + used, 1);
        *stored -= 1;
        if (error != 0 || *stored < 0)
            return error != 0 ? error : EBADMSG;
        if (line[used] == '\n')
            break;
        if (line[used] < '0' || line[used] > '9' || ++used == size - 1)
            return EBADMSG;
    }
    line[used] = '\0';
    *value = strtoll(line, NULL, 10);
    return *value < 0 ? EBADMSG : 0;
}

/* GNU sparse format 1.0: the map comes first, in text. */
static int take_sparse(int fd, const struct member *member)
{
    char line[24];
    int64_t stored = member->size, count, (*map)[2];
    int error = sparse_number(line, sizeof line, &stored, &count);
    if (error != 0 || count > MOST_SPARSE)
        return error != 0 ? error : EBADMSG;
    if ((map = calloc((size_t)count + 1, sizeof *map)) == NULL)
        return ENOMEM;
    for (int64_t i = 0; error == 0 && i < 2 * count; i++)
        error = sparse_number(line, sizeof line, &stored, &map[i / 2][i % 2]);
    int64_t pad = padding(member->size - stored);
    stored -= pad;
    if (error == 0)
        error = skip(pad);
    for (int64_t i = 0; error == 0 && i < count; i++) {
        stored -= map[i][1];
        if (stored < 0 || map[i][0] > member->real_size - map[i][1])
            error = EBADMSG;
        else if (map[i][1] > 0)
            error = lseek(fd, map[i][0], SEEK_SET) < 0 ? errno : take_content(fd, map[i][1]);
    }
    free(map);
    if (error == 0)
        error = stored != 0 ? EBADMSG : ftruncate(fd, member->real_size) != 0 ? errno : 0;
    return error;
}

static int take_file(const struct member *member)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(job.directory, member->name, flags, 0600), error = 0;
    if (fd < 0 && errno == EEXIST && (error = make_way(member->name)) == 0)
        fd = openat(job.directory, member->name, flags, 0600);
    if (fd < 0)
        return error != 0 ? error : errno;
    error = member->sparse ? take_sparse(fd, member) : take_content(fd, member->size);
    if (error == 0)
        error = skip(padding(member->size));
    if (close(fd) != 0 && error == 0)
        error = errno;
    if (error != 0)
        unlinkat(job.directory, member->name, 0); /* half a file is none */
    return error;
}

static int make_directory(const struct member *member)
{
    struct stat status;
    if (mkdirat(job.directory, member->name, 0700) == 0)
        return 0;
    if (errno != EEXIST)
        return errno;
    if (fstatat(job.directory, member->name, &status, 0) == 0 && S_ISDIR(status.st_mode))
        return 0;
    int error = make_way(member->name);
    return error != 0 ? error : mkdirat(job.directory, member->name, 0700) == 0 ? 0 : errno;
}

static int make(const struct member *member)
{
    static const struct { char type; mode_t mode; } nodes[] = {{'3', S_IFCHR}, {'4', S_IFBLK}, {'6', S_IFIFO}};
    int error;
    if (member->type == '0' || member->type == '\0')
        return take_file(member);
    if (member->size != 0)
        return EBADMSG;
    if (member->type == '5')
        return make_directory(member);
    if ((error = make_way(member->name)) != 0)
        return error;
    if (member->type == '2')
        return symlinkat(member->link, job.directory, member->name) == 0 ? 0 : errno;
    if (member->type == '1')
        return !is_below(member->link) ? EINVAL : linkat(job.directory, member->link, job.directory, member->name, 0) == 0 ? 0 : errno;
    for (int i = 0; i < 3; i++)
        if (nodes[i].type == member->type)
            return mknodat(job.directory, member->name, nodes[i].mode | 0600, makedev(member->major, member->minor)) == 0 ? 0 : errno;
    return EBADMSG;
}

static int set_xattrs(const struct member *member)
{
    char path[PATH_MAX + 32], *at = job.extended, *key, *value;
    size_t length, prefix = strlen(TAR_XATTR);
    /* there is no call that takes a directory and a path */
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", job.directory, member->name);
    while (job.extended_length > 0 && next_record(&at, job.extended + job.extended_length, &key, &value, &length)) {
        if (strncmp(key, TAR_XATTR, prefix) != 0)
            continue;
        value[-1] = '\0';
        if (lsetxattr(path, key + prefix, value, length, 0) != 0 && errno != ENOTSUP)
            return errno;
    }
    return 0;
}

static int set_attributes(const struct member *member)
{
    uid_t uid = job.own ? job.uid : member->uid;
    gid_t gid = job.own ? job.gid : member->gid;
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, member->mtime};
    if (fchownat(job.directory, member->name, uid, gid, AT_SYMLINK_NOFOLLOW) != 0)
        return errno;
    if (member->type != '2' && fchmodat(job.directory, member->name, member->mode, 0) != 0)
        return errno;
    int error = set_xattrs(member); /* after the owner, whose change drops capabilities */
    if (error != 0)
        return error;
    if (member->type != '5')
        return utimensat(job.directory, member->name, times, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
    struct deferred *directory = malloc(sizeof *directory + strlen(member->name) + 1);
    if (directory == NULL)
        return ENOMEM;
    directory->before = job.directories;
    directory->mtime = member->mtime;
    strcpy(directory->path, member->name);
    job.directories = directory;
    return 0;
}

/* Times of directories come last: what is made in them changes them. */
static void set_directory_times(void)
{
    for (struct deferred *one = job.directories; one != NULL; one = one->before) {
        const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, one->mtime};
        utimensat(job.directory, one->path, times, AT_SYMLINK_NOFOLLOW);
    }
}

static int extract(void)
{
    static struct member member;
    for (;;) {
        bool end = false;
        int error = next_member(&member, &end);
        if (error != 0 || end)
            return error;
        strcpy(job.told, member.name);
        size_t length = strlen(member.name);
        while (length > 1 && member.name[length - 1] == '/')
            member.name[--length] = '\0';
        if (!is_below(member.name))
            return EINVAL;
        if ((error = make(&member)) != 0 || (member.type != '1' && (error = set_attributes(&member)) != 0))
            return error;
        job.extended_length = 0;
    }
}

/* Like `mkdir -p`, as far as it goes: opening it tells what is wrong. */
static void make_parents(char *path)
{
    for (char *at = path + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        mkdir(path, 0755);
        *at = '/';
    }
    mkdir(path, 0755);
}

int builtin_extract(char *const *argv)
{
    if (strcmp(argv[2], "keep") != 0) {
        char *rest;
        job.own = true;
        job.uid = (uid_t)strtoul(argv[2], &rest, 10);
        job.gid = (gid_t)strtoul(*rest == ':' ? rest + 1 : rest, NULL, 10);
    }
    umask(0);
    make_parents(argv[1]);
    job.directory = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (job.directory < 0)
        return builtin_fault(argv[1], errno);
    strcpy(job.told, "archive");
    int error = extract();
    set_directory_times();
    return error != 0 ? builtin_fault(job.told, error) : 0;
}
