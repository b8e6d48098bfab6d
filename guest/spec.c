#include "spec.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "wire.h"

struct reader {
    struct json json;
    char *at, *end; /* free room for decoded strings */
};

static bool read_string(struct reader *reader, const char **out)
{
    size_t length;
    if (!json_string(&reader->json, reader->at, (size_t)(reader->end - reader->at), &length))
        return false;
    *out = reader->at;
    reader->at += length + 1;
    return true;
}

static bool read_list(struct reader *reader, char ***out)
{
    size_t count = 0, room = 0;
    char **list = NULL;
    if (*out != NULL || !json_array(&reader->json))
        return json_fail(&reader->json, "a key given twice");
    for (;;) {
        if (count == room) {
            room = room == 0 ? 16 : room * 2;
            char **larger = realloc(list, room * sizeof *list);
            if (larger == NULL) {
                free(list);
                return json_fail(&reader->json, "no memory");
            }
            list = larger;
        }
        list[count] = NULL;
        const char *item;
        if (!json_element(&reader->json) || !read_string(reader, &item))
            break;
        list[count++] = (char *)item;
    }
    *out = list;
    return reader->json.error == NULL;
}

static bool read_number(struct reader *reader, int64_t most, int64_t *value)
{
    return json_integer(&reader->json, 0, most, value);
}

/* A list of [resource, soft, hard]. */
static bool read_rlimits(struct reader *reader, struct spec *spec)
{
    struct json *json = &reader->json;
    if (!json_array(json))
        return false;
    while (json_element(json)) {
        struct spec_rlimit *limit = &spec->rlimits[spec->rlimit_count];
        int64_t values[3];
        int count = 0;
        if (spec->rlimit_count == SPEC_RLIMITS)
            return json_fail(json, "too many limits");
        for (json_array(json); json_element(json); count++)
            if (count == 3 || !json_integer(json, -1, INT64_MAX, &values[count]))
                return json_fail(json, "a limit that is not [resource, soft, hard]");
        if (json->error != NULL || count != 3)
            return json_fail(json, "a limit that is not [resource, soft, hard]");
        *limit = (struct spec_rlimit){values[0], values[1], values[2]};
        spec->rlimit_count++;
    }
    return json->error == NULL;
}

static bool read_mount(struct reader *reader, struct spec_mount *mount)
{
    char key[32];
    *mount = (struct spec_mount){.source = "", .options = ""};
    json_object(&reader->json);
    while (json_member(&reader->json, key, sizeof key)) {
        if (strcmp(key, "read_only") == 0)
            json_boolean(&reader->json, &mount->read_only);
        else if (strcmp(key, "type") == 0)
            read_string(reader, &mount->type);
        else if (strcmp(key, "source") == 0)
            read_string(reader, &mount->source);
        else if (strcmp(key, "target") == 0)
            read_string(reader, &mount->target);
        else if (strcmp(key, "options") == 0)
            read_string(reader, &mount->options);
        else
            json_fail(&reader->json, "an unknown key of a mount");
    }
    if (reader->json.error == NULL && (mount->type == NULL || mount->target == NULL || mount->target[0] != '/'))
        json_fail(&reader->json, "a mount without type or absolute target");
    return reader->json.error == NULL;
}

static bool read_mounts(struct reader *reader, struct spec *spec)
{
    if (!json_array(&reader->json))
        return false;
    while (json_element(&reader->json)) {
        if (spec->mount_count == SPEC_MOUNTS)
            return json_fail(&reader->json, "too many mounts");
        if (!read_mount(reader, &spec->mounts[spec->mount_count]))
            return false;
        spec->mount_count++;
    }
    return reader->json.error == NULL;
}

/* Whether `key` is one of the machine's own; then its value is read. */
static bool read_machine_member(struct reader *reader, struct spec *spec, const char *key)
{
    struct json *json = &reader->json;
    if (strcmp(key, "hostname") == 0)
        read_string(reader, &spec->hostname);
    else if (strcmp(key, "seed") == 0)
        read_string(reader, &spec->seed);
    else if (strcmp(key, "resolver") == 0)
        read_string(reader, &spec->resolver);
    else if (strcmp(key, "layers") == 0)
        read_number(reader, INT32_MAX, &spec->layers);
    else if (strcmp(key, "most_tasks") == 0)
        read_number(reader, INT32_MAX, &spec->most_tasks);
    else if (strcmp(key, "sysctls") == 0)
        read_list(reader, &spec->sysctls);
    else if (strcmp(key, "mounts") == 0)
        read_mounts(reader, spec);
    else if (strcmp(key, "read_only") == 0)
        json_boolean(json, &spec->read_only);
    else if (strcmp(key, "unmasked") == 0)
        json_boolean(json, &spec->unmasked);
    else if (strcmp(key, "own_pids") == 0)
        json_boolean(json, &spec->own_pids);
    else if (strcmp(key, "later_shares") == 0)
        json_boolean(json, &spec->later_shares);
    else
        return false;
    return true;
}

static bool read_size(struct reader *reader, uint16_t *value)
{
    int64_t number;
    if (!read_number(reader, UINT16_MAX, &number))
        return false;
    *value = (uint16_t)number;
    return true;
}

/* One member of the document. */
static bool read_member(struct reader *reader, struct spec *spec, enum spec_kind kind, const char *key)
{
    struct json *json = &reader->json;
    int64_t number = 0;
    if (kind != SPEC_INIT && strcmp(key, "credit") == 0) {
        read_number(reader, WIRE_MAX_CREDIT, &number);
        spec->credit = (uint32_t)number;
    } else if (kind == SPEC_START)
        json_fail(json, "an unknown key");
    else if (strcmp(key, "cmd") == 0)
        read_list(reader, &spec->argv);
    else if (strcmp(key, "env") == 0)
        read_list(reader, &spec->env);
    else if (strcmp(key, "groups") == 0)
        read_list(reader, &spec->groups);
    else if (strcmp(key, "working_dir") == 0)
        read_string(reader, &spec->working_dir);
    else if (strcmp(key, "user") == 0)
        read_string(reader, &spec->user);
    else if (strcmp(key, "rlimits") == 0)
        read_rlimits(reader, spec);
    else if (strcmp(key, "umask") == 0)
        read_number(reader, 0777, &spec->umask);
    else if (strcmp(key, "capabilities") == 0)
        read_number(reader, INT64_MAX, &spec->capabilities);
    else if (strcmp(key, "no_new_privs") == 0)
        json_boolean(json, &spec->no_new_privs);
    else if (strcmp(key, "seccomp") == 0)
        json_boolean(json, &spec->seccomp);
    else if (strcmp(key, "builtin") == 0 && kind == SPEC_EXEC)
        json_boolean(json, &spec->builtin);
    else if (strcmp(key, "tty") == 0)
        json_boolean(json, &spec->tty);
    else if (strcmp(key, "rows") == 0)
        read_size(reader, &spec->rows);
    else if (strcmp(key, "columns") == 0)
        read_size(reader, &spec->columns);
    else if (kind != SPEC_INIT || !read_machine_member(reader, spec, key))
        json_fail(json, "an unknown key");
    return json->error == NULL;
}

static const char *check(struct spec *spec, enum spec_kind kind)
{
    static char *none[] = {NULL};
    if (kind == SPEC_START)
        return NULL;
    if (spec->argv == NULL || spec->argv[0] == NULL || spec->argv[0][0] == '\0')
        return "no command";
    for (char **entry = spec->env; entry != NULL && *entry != NULL; entry++)
        if (strchr(*entry, '=') == NULL || **entry == '=')
            return "an environment entry that is not NAME=value";
    if (spec->env == NULL && (spec->env = calloc(1, sizeof none)) == NULL)
        return "no memory";
    if (spec->groups == NULL && (spec->groups = calloc(1, sizeof none)) == NULL)
        return "no memory";
    if (spec->sysctls == NULL && (spec->sysctls = calloc(1, sizeof none)) == NULL)
        return "no memory";
    if (spec->working_dir == NULL || spec->working_dir[0] == '\0')
        spec->working_dir = "/";
    if (spec->working_dir[0] != '/')
        return "a working directory that is not absolute";
    return NULL;
}

const char *spec_parse(struct spec *spec, enum spec_kind kind, const void *data, size_t length)
{
    struct reader reader;
    char key[32];
    memset(spec, 0, sizeof *spec);
    spec->layers = spec->umask = spec->capabilities = -1;
    spec->user = spec->hostname = spec->seed = spec->resolver = "";
    /* A decoded string with its NUL is never longer than its quoted form, so the document's own size suffices. */
    spec->text = malloc(length + 1);
    if (spec->text == NULL)
        return "no memory";
    reader.at = spec->text;
    reader.end = spec->text + length + 1;
    json_open(&reader.json, data, length);
    json_object(&reader.json);
    while (json_member(&reader.json, key, sizeof key))
        if (!read_member(&reader, spec, kind, key))
            break;
    json_end(&reader.json);
    const char *error = reader.json.error != NULL ? reader.json.error : check(spec, kind);
    if (error != NULL)
        spec_free(spec);
    return error;
}

void spec_free(struct spec *spec)
{
    free(spec->argv);
    free(spec->env);
    free(spec->groups);
    free(spec->sysctls);
    free(spec->text);
    memset(spec, 0, sizeof *spec);
}
