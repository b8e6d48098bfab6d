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

/* One member of the document. */
static bool read_member(struct reader *reader, struct spec *spec, enum spec_kind kind, const char *key)
{
    int64_t number;
    if (kind != SPEC_INIT && strcmp(key, "credit") == 0) {
        if (!read_number(reader, WIRE_MAX_CREDIT, &number))
            return false;
        spec->credit = (uint32_t)number;
        return true;
    }
    if (kind == SPEC_START)
        return json_fail(&reader->json, "an unknown key");
    if (strcmp(key, "cmd") == 0)
        return read_list(reader, &spec->argv);
    if (strcmp(key, "env") == 0)
        return read_list(reader, &spec->env);
    if (strcmp(key, "groups") == 0)
        return read_list(reader, &spec->groups);
    if (strcmp(key, "working_dir") == 0)
        return read_string(reader, &spec->working_dir);
    if (strcmp(key, "user") == 0)
        return read_string(reader, &spec->user);
    if (strcmp(key, "tty") == 0)
        return json_boolean(&reader->json, &spec->tty);
    if (strcmp(key, "rows") == 0 || strcmp(key, "columns") == 0) {
        if (!read_number(reader, UINT16_MAX, &number))
            return false;
        *(key[0] == 'r' ? &spec->rows : &spec->columns) = (uint16_t)number;
        return true;
    }
    if (kind == SPEC_INIT && strcmp(key, "hostname") == 0)
        return read_string(reader, &spec->hostname);
    if (kind == SPEC_INIT && strcmp(key, "layers") == 0)
        return read_number(reader, INT32_MAX, &spec->layers);
    return json_fail(&reader->json, "an unknown key");
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
    spec->layers = -1;
    spec->user = spec->hostname = "";
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
    free(spec->text);
    memset(spec, 0, sizeof *spec);
}
