/* A strict JSON reader into a tree, and a writer. Keys are case-sensitive and may not come twice. */
#ifndef HCS_JSON_H
#define HCS_JSON_H

#include "text.h"

#define JSON_DEPTH 64

enum json_kind { JSON_NULL, JSON_BOOLEAN, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_kind kind;
    char *key;      /* of a member */
    char *string;   /* a string's text; a number's as it was written */
    int64_t number; /* also of a boolean */
    bool integer;   /* a number without fraction or exponent that fits */
    struct json *first, *next;
};

struct json *json_parse(const char *text, char **error); /* NULL with a message that the caller frees */
void json_free(struct json *value);
struct json *json_copy(const struct json *value);
char *json_write(const struct json *value);

struct json *json_object(void);
struct json *json_array(void);
struct json *json_string(const char *text);
struct json *json_integer(int64_t number);
struct json *json_boolean(bool truth);

/* Members: `set` replaces and takes the value over, `add` appends to an array. */
struct json *json_get(const struct json *object, const char *key);
struct json *json_at(const struct json *value, const char *path); /* "A/B/C"; NULL if any is missing */
void json_set(struct json *object, const char *key, struct json *value);
bool json_remove(struct json *object, const char *key);
void json_add(struct json *array, struct json *value);

/* The value of a member of the right kind, or what to take in its stead. */
const char *json_text(const struct json *object, const char *key, const char *otherwise);
int64_t json_number(const struct json *object, const char *key, int64_t otherwise);
bool json_truth(const struct json *object, const char *key, bool otherwise);

#endif
