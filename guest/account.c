#include "account.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_BYTES 65536
#define FILE_MAX_LINES 1000000

/* Lines of a regular file of the image; a missing file has none. Lines that are too long are left out. */
struct lines {
    FILE *file;
    char *line;
    int count;
};

static void lines_open(struct lines *lines, const char *path)
{
    struct stat status;
    memset(lines, 0, sizeof *lines);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || (lines->line = malloc(LINE_MAX_BYTES)) == NULL ||
        (lines->file = fdopen(fd, "r")) == NULL) {
        free(lines->line);
        lines->line = NULL;
        close(fd);
    }
}

static char *lines_next(struct lines *lines)
{
    bool whole = true; /* the next piece begins a line */
    while (lines->file != NULL && lines->count++ < FILE_MAX_LINES && fgets(lines->line, LINE_MAX_BYTES, lines->file)) {
        size_t length = strlen(lines->line);
        bool ends = length > 0 && lines->line[length - 1] == '\n';
        if (ends)
            lines->line[length - 1] = '\0';
        if (whole && (ends || feof(lines->file)))
            return lines->line;
        whole = ends;
    }
    return NULL;
}

static void lines_close(struct lines *lines)
{
    if (lines->file != NULL)
        fclose(lines->file);
    free(lines->line);
}

/* Splits at colons; returns how many fields there are, at most `most`. */
static int split(char *line, char **fields, int most)
{
    int count = 0;
    while (count < most) {
        fields[count++] = line;
        line = strchr(line, ':');
        if (line == NULL)
            break;
        *line++ = '\0';
    }
    return count;
}

/* Decimal digits only, at most 2^32 - 2 (2^32 - 1 means "leave it" to the kernel). */
static bool number(const char *text, uint32_t *value)
{
    uint64_t sum = 0;
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || (sum = sum * 10 + (uint64_t)(*text - '0')) > UINT32_MAX - 1)
            return false;
    }
    *value = (uint32_t)sum;
    return true;
}

static bool listed(char *members, const char *name)
{
    char *rest = NULL;
    for (char *member = strtok_r(members, ",", &rest); member != NULL; member = strtok_r(NULL, ",", &rest))
        if (strcmp(member, name) == 0)
            return true;
    return false;
}

/* Finds a user by name or number; `name` gets the name of the entry, empty when there is none. */
static int find_user(struct account *account, const char *wanted, char *name, size_t size, char *text, size_t text_size)
{
    struct lines lines;
    uint32_t uid = 0, entry_uid, entry_gid;
    bool numeric = *wanted == '\0' || number(wanted, &uid), found = false;
    char *line, *field[7];
    lines_open(&lines, "/etc/passwd");
    while (!found && (line = lines_next(&lines)) != NULL) {
        int count = split(line, field, 7);
        if (count < 4 || !number(field[2], &entry_uid) || !number(field[3], &entry_gid))
            continue;
        if (numeric ? entry_uid != uid : strcmp(field[0], wanted) != 0)
            continue;
        found = true;
        account->uid = entry_uid;
        account->gid = entry_gid;
        snprintf(name, size, "%s", field[0]);
        if (count > 5 && field[5][0] != '\0')
            snprintf(account->home, sizeof account->home, "%s", field[5]);
    }
    lines_close(&lines);
    if (!found && !numeric) {
        snprintf(text, text_size, "unable to find user %s: no matching entries in passwd file", wanted);
        return -1;
    }
    if (!found)
        account->uid = uid;
    return 0;
}

static void add_group(struct account *account, gid_t gid)
{
    for (size_t i = 0; i < account->group_count; i++)
        if (account->groups[i] == gid)
            return;
    if (account->group_count < ACCOUNT_GROUPS)
        account->groups[account->group_count++] = gid;
}

static int find_group(const char *wanted, gid_t *gid, char *text, size_t size)
{
    struct lines lines;
    uint32_t entry;
    char *line, *field[4];
    if (number(wanted, gid))
        return 0;
    lines_open(&lines, "/etc/group");
    while ((line = lines_next(&lines)) != NULL)
        if (split(line, field, 4) >= 3 && strcmp(field[0], wanted) == 0 && number(field[2], &entry)) {
            *gid = entry;
            lines_close(&lines);
            return 0;
        }
    lines_close(&lines);
    snprintf(text, size, "unable to find group %s: no matching entries in group file", wanted);
    return -1;
}

static void add_memberships(struct account *account, const char *name)
{
    struct lines lines;
    uint32_t gid;
    char *line, *field[4];
    lines_open(&lines, "/etc/group");
    while ((line = lines_next(&lines)) != NULL)
        if (split(line, field, 4) == 4 && number(field[2], &gid) && listed(field[3], name))
            add_group(account, gid);
    lines_close(&lines);
}

int account_resolve(struct account *account, const char *user, char *const *groups, char *text, size_t size)
{
    char wanted[256], name[256] = "";
    const char *colon = strchr(user, ':');
    size_t length = colon != NULL ? (size_t)(colon - user) : strlen(user);
    memset(account, 0, sizeof *account);
    strcpy(account->home, "/");
    if (length >= sizeof wanted) {
        snprintf(text, size, "unable to find user: the name is longer than %zu bytes", sizeof wanted - 1);
        return -1;
    }
    memcpy(wanted, user, length);
    wanted[length] = '\0';
    if (find_user(account, wanted, name, sizeof name, text, size) != 0)
        return -1;
    if (colon != NULL && colon[1] != '\0') {
        if (find_group(colon + 1, &account->gid, text, size) != 0)
            return -1;
    } else if (name[0] != '\0') {
        add_memberships(account, name);
    }
    for (; *groups != NULL; groups++) {
        gid_t gid;
        if (find_group(*groups, &gid, text, size) != 0)
            return -1;
        add_group(account, gid);
    }
    return 0;
}
