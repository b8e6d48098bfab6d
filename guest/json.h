/* A strict, bounded JSON reader over bytes in memory: a cursor, no tree.
 *
 * Strings are byte strings. Escapes become UTF-8; a lone low surrogate U+DC80..U+DCFF is the raw byte 0x80..0xFF, as
 * Python writes bytes that are not UTF-8; NUL is refused. The first mistake sticks: `error` is set, every later call
 * returns false.
 */
#ifndef PROPOLIS_JSON_H
#define PROPOLIS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_DEPTH 16

struct json {
    const unsigned char *start, *at, *end;
    const char *error; /* NULL while all is well */
    int depth;
    bool first[JSON_DEPTH]; /* no member or element read yet, per depth */
};

void json_open(struct json *json, const void *data, size_t length);

/* Enter an object or array. */
bool json_object(struct json *json);
bool json_array(struct json *json);

/* Step to the next member (its key copied to `key`, cut to fit is an error) or element; false at the end. */
bool json_member(struct json *json, char *key, size_t size);
bool json_element(struct json *json);

/* Decode a string to `out`, which needs room for the rest of the document; returns its length without the NUL. */
bool json_string(struct json *json, char *out, size_t size, size_t *length);
bool json_integer(struct json *json, int64_t least, int64_t most, int64_t *value);
bool json_boolean(struct json *json, bool *value);

/* Nothing but white space may follow. */
bool json_end(struct json *json);

bool json_fail(struct json *json, const char *error);

#endif
