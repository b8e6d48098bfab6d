#include "record.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/sysmacros.h>

static bool first;
static int depth;

void record_open(void)
{
    if (depth > 0 && !first)
        putchar(',');
    putchar('{');
    first = true;
    depth++;
}

void record_close(void)
{
    putchar('}');
    first = false;
    if (--depth == 0)
        putchar('\n');
}

static void quoted(const char *text)
{
    putchar('"');
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\')
            printf("\\%c", *at);
        else if (*at < ' ' || *at == 0x7f)
            printf("\\u%04x", *at);
        else
            putchar(*at);
    }
    putchar('"');
}

static void name(const char *key)
{
    if (!first)
        putchar(',');
    first = false;
    quoted(key);
    putchar(':');
}

void record_number(const char *key, int64_t value)
{
    name(key);
    printf("%" PRId64, value);
}

void record_pair(const char *key, unsigned left, unsigned right)
{
    name(key);
    printf("[%u,%u]", left, right);
}

void record_string(const char *key, const char *value)
{
    name(key);
    quoted(value);
}

void record_list(const char *key)
{
    name(key);
    putchar('[');
    first = true;
}

void record_list_end(void)
{
    putchar(']');
    first = false;
}

static int64_t nanoseconds(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

void record_status(const struct stat *status)
{
    record_number("mode", status->st_mode);
    record_number("uid", status->st_uid);
    record_number("gid", status->st_gid);
    record_number("size", status->st_size);
    record_number("blocks", status->st_blocks);
    record_number("links", (int64_t)status->st_nlink);
    record_number("inode", (int64_t)(status->st_ino & INT64_MAX));
    record_pair("device", major(status->st_rdev), minor(status->st_rdev));
    record_number("atime_ns", nanoseconds(status->st_atim));
    record_number("mtime_ns", nanoseconds(status->st_mtim));
    record_number("ctime_ns", nanoseconds(status->st_ctim));
}
