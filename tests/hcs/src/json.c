#include "json.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    const char *start, *at;
    const char *error;
    int depth;
};

static struct json *read_value(struct reader *reader);

static struct json *make(enum json_kind kind)
{
    struct json *value = allocate(sizeof *value);
    value->kind = kind;
    return value;
}

static void *mistake(struct reader *reader, const char *error)
{
    if (reader->error == NULL)
        reader->error = error;
    return NULL;
}

static void skip_space(struct reader *reader)
{
    while (*reader->at == ' ' || *reader->at == '\t' || *reader->at == '\n' || *reader->at == '\r')
        reader->at++;
}

static bool take(struct reader *reader, char expected)
{
    skip_space(reader);
    if (*reader->at != expected)
        return false;
    reader->at++;
    return true;
}

static bool read_hex(struct reader *reader, uint32_t *code)
{
    *code = 0;
    for (int digit = 0; digit < 4; digit++) {
        char character = *reader->at;
        if (!isxdigit((unsigned char)character))
            return false;
        reader->at++;
        *code =
            *code << 4 | (uint32_t)(isdigit((unsigned char)character) ? character - '0' : (character | 32) - 'a' + 10);
    }
    return true;
}

static bool read_escape(struct reader *reader, struct text *text)
{
    static const char names[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    char name = *reader->at++;
    const char *known = name == '\0' ? NULL : strchr(names, name);
    if (known != NULL) {
        text_add(text, &means[known - names], 1);
        return true;
    }
    uint32_t code, second;
    if (name != 'u' || !read_hex(reader, &code))
        return false;
    if ((code & 0xfc00) == 0xd800) {
        if (reader->at[0] != '\\' || reader->at[1] != 'u')
            return false;
        reader->at += 2;
        if (!read_hex(reader, &second) || (second & 0xfc00) != 0xdc00)
            return false;
        code = 0x10000 + ((code & 0x3ff) << 10) + (second & 0x3ff);
    } else if ((code & 0xfc00) == 0xdc00 || code == 0)
        return false;
    wchar_t wide[3] = {(wchar_t)code, 0, 0};
    if (sizeof(wchar_t) == 2 && code >= 0x10000) {
        wide[0] = (wchar_t)(0xd7c0 + (code >> 10));
        wide[1] = (wchar_t)(0xdc00 | (code & 0x3ff));
    }
    char *bytes = narrow(wide);
    text_add(text, bytes, strlen(bytes));
    free(bytes);
    return true;
}

static char *read_string(struct reader *reader)
{
    if (!take(reader, '"'))
        return mistake(reader, "a string was expected");
    struct text text = {0};
    text_add(&text, "", 0);
    while (*reader->at != '"') {
        if ((unsigned char)*reader->at < ' ') {
            free(text.data);
            return mistake(reader, "a string has no end, or holds a control character");
        }
        if (*reader->at != '\\') {
            text_add(&text, reader->at++, 1);
            continue;
        }
        reader->at++;
        if (!read_escape(reader, &text)) {
            free(text.data);
            return mistake(reader, "an escape is not one of JSON's");
        }
    }
    reader->at++;
    return text.data;
}

static struct json *read_number(struct reader *reader)
{
    const char *start = reader->at, *at = start;
    bool integer = true;
    at += *at == '-';
    if (!isdigit((unsigned char)*at) || (at[0] == '0' && isdigit((unsigned char)at[1])))
        return mistake(reader, "a value was expected");
    while (isdigit((unsigned char)*at))
        at++;
    if (*at == '.' && isdigit((unsigned char)at[1]))
        for (integer = false, at++; isdigit((unsigned char)*at);)
            at++;
    if (*at == 'e' || *at == 'E') {
        integer = false;
        at++;
        at += *at == '+' || *at == '-';
        while (isdigit((unsigned char)*at))
            at++;
    }
    struct json *value = make(JSON_NUMBER);
    struct text text = {0};
    text_add(&text, start, (size_t)(at - start));
    value->string = text.data;
    value->integer = integer && at - start < 19;
    value->number = value->integer ? strtoll(value->string, NULL, 10) : 0;
    reader->at = at;
    return value;
}

static struct json *read_container(struct reader *reader, enum json_kind kind)
{
    char end = kind == JSON_OBJECT ? '}' : ']';
    if (++reader->depth > JSON_DEPTH)
        return mistake(reader, "nested too deeply");
    struct json *container = make(kind);
    struct json **tail = &container->first;
    if (!take(reader, end))
        do {
            char *key = NULL;
            if (kind == JSON_OBJECT) {
                key = read_string(reader);
                if (key != NULL && json_get(container, key) != NULL)
                    mistake(reader, "a member comes twice");
                if (key != NULL && !take(reader, ':'))
                    mistake(reader, "a colon was expected");
            }
            struct json *value = reader->error == NULL ? read_value(reader) : NULL;
            if (value == NULL) {
                free(key);
                json_free(container);
                return NULL;
            }
            value->key = key;
            *tail = value;
            tail = &value->next;
            skip_space(reader);
            if (*reader->at != ',' && *reader->at != end) {
                json_free(container);
                return mistake(reader, "a comma was expected, or the end of what was begun");
            }
        } while (*reader->at++ == ',');
    reader->depth--;
    return container;
}

static struct json *read_value(struct reader *reader)
{
    static const struct {
        const char *word;
        enum json_kind kind;
        int64_t number;
    } words[] = {{"null", JSON_NULL, 0}, {"true", JSON_BOOLEAN, 1}, {"false", JSON_BOOLEAN, 0}};
    skip_space(reader);
    if (*reader->at == '{' || *reader->at == '[') {
        enum json_kind kind = *reader->at++ == '{' ? JSON_OBJECT : JSON_ARRAY;
        return read_container(reader, kind);
    }
    if (*reader->at == '"') {
        char *string = read_string(reader);
        if (string == NULL)
            return NULL;
        struct json *value = make(JSON_STRING);
        value->string = string;
        return value;
    }
    for (size_t at = 0; at < sizeof words / sizeof *words; at++)
        if (starts_with(reader->at, words[at].word)) {
            reader->at += strlen(words[at].word);
            struct json *value = make(words[at].kind);
            value->number = words[at].number;
            return value;
        }
    return read_number(reader);
}

struct json *json_parse(const char *text, char **error)
{
    struct reader reader = {.start = text, .at = text};
    struct json *value = read_value(&reader);
    skip_space(&reader);
    if (value != NULL && *reader.at != '\0') {
        mistake(&reader, "nothing may follow the document");
        json_free(value);
        value = NULL;
    }
    if (value == NULL && error != NULL)
        *error = format("%s (at byte %td)", reader.error, reader.at - text);
    return value;
}

void json_free(struct json *value)
{
    while (value != NULL) {
        struct json *next = value->next;
        json_free(value->first);
        free(value->key);
        free(value->string);
        free(value);
        value = next;
    }
}

struct json *json_copy(const struct json *value)
{
    struct json *copy = make(value->kind);
    copy->key = value->key != NULL ? duplicate(value->key) : NULL;
    copy->string = value->string != NULL ? duplicate(value->string) : NULL;
    copy->number = value->number;
    copy->integer = value->integer;
    struct json **tail = &copy->first;
    for (const struct json *child = value->first; child != NULL; child = child->next) {
        *tail = json_copy(child);
        tail = &(*tail)->next;
    }
    return copy;
}

static void write_string(struct text *text, const char *string)
{
    text_add(text, "\"", 1);
    for (const unsigned char *at = (const unsigned char *)string; *at != '\0'; at++)
        if (*at == '"' || *at == '\\')
            text_format(text, "\\%c", *at);
        else if (*at < ' ')
            text_format(text, "\\u%04x", *at);
        else
            text_add(text, (const char *)at, 1);
    text_add(text, "\"", 1);
}

static void write_value(struct text *text, const struct json *value)
{
    bool object = value->kind == JSON_OBJECT;
    switch (value->kind) {
    case JSON_NULL:
        text_format(text, "null");
        break;
    case JSON_BOOLEAN:
        text_format(text, value->number ? "true" : "false");
        break;
    case JSON_NUMBER:
        text_format(text, "%s", value->string);
        break;
    case JSON_STRING:
        write_string(text, value->string);
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        text_add(text, object ? "{" : "[", 1);
        for (const struct json *child = value->first; child != NULL; child = child->next) {
            if (object) {
                write_string(text, child->key);
                text_add(text, ":", 1);
            }
            write_value(text, child);
            if (child->next != NULL)
                text_add(text, ",", 1);
        }
        text_add(text, object ? "}" : "]", 1);
    }
}

char *json_write(const struct json *value)
{
    struct text text = {0};
    write_value(&text, value);
    return text.data;
}

struct json *json_object(void)
{
    return make(JSON_OBJECT);
}

struct json *json_array(void)
{
    return make(JSON_ARRAY);
}

struct json *json_string(const char *text)
{
    struct json *value = make(JSON_STRING);
    value->string = duplicate(text);
    return value;
}

struct json *json_integer(int64_t number)
{
    struct json *value = make(JSON_NUMBER);
    value->string = format("%" PRId64, number);
    value->number = number;
    value->integer = true;
    return value;
}

struct json *json_boolean(bool truth)
{
    struct json *value = make(JSON_BOOLEAN);
    value->number = truth;
    return value;
}

struct json *json_get(const struct json *object, const char *key)
{
    if (object == NULL || object->kind != JSON_OBJECT)
        return NULL;
    struct json *member = object->first;
    while (member != NULL && strcmp(member->key, key) != 0)
        member = member->next;
    return member;
}

struct json *json_at(const struct json *value, const char *path)
{
    while (value != NULL && *path != '\0') {
        size_t length = strcspn(path, "/");
        struct text key = {0};
        text_add(&key, path, length);
        value = json_get(value, key.data);
        free(key.data);
        path += length + (path[length] == '/');
    }
    return (struct json *)value;
}

void json_set(struct json *object, const char *key, struct json *value)
{
    json_remove(object, key);
    free(value->key);
    value->key = duplicate(key);
    json_add(object, value);
}

bool json_remove(struct json *object, const char *key)
{
    for (struct json **link = &object->first; *link != NULL; link = &(*link)->next)
        if (strcmp((*link)->key, key) == 0) {
            struct json *member = *link;
            *link = member->next;
            member->next = NULL;
            json_free(member);
            return true;
        }
    return false;
}

void json_add(struct json *array, struct json *value)
{
    struct json **link = &array->first;
    while (*link != NULL)
        link = &(*link)->next;
    *link = value;
}

const char *json_text(const struct json *object, const char *key, const char *otherwise)
{
    const struct json *member = json_get(object, key);
    return member != NULL && member->kind == JSON_STRING ? member->string : otherwise;
}

int64_t json_number(const struct json *object, const char *key, int64_t otherwise)
{
    const struct json *member = json_get(object, key);
    return member != NULL && member->kind == JSON_NUMBER && member->integer ? member->number : otherwise;
}

bool json_truth(const struct json *object, const char *key, bool otherwise)
{
    const struct json *member = json_get(object, key);
    return member != NULL && member->kind == JSON_BOOLEAN ? member->number != 0 : otherwise;
}
