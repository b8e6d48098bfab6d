#include "json.h"

#include <string.h>

void json_open(struct json *json, const void *data, size_t length)
{
    memset(json, 0, sizeof *json);
    json->start = json->at = data;
    json->end = json->start + length;
}

bool json_fail(struct json *json, const char *error)
{
    if (json->error == NULL)
        json->error = error;
    return false;
}

/* The next byte that is not white space, or -1. */
static int peek(struct json *json)
{
    while (json->at < json->end && (*json->at == ' ' || *json->at == '\t' || *json->at == '\n' || *json->at == '\r'))
        json->at++;
    return json->at < json->end ? *json->at : -1;
}

static bool take(struct json *json, char expected, const char *error)
{
    if (json->error != NULL)
        return false;
    if (peek(json) != (unsigned char)expected)
        return json_fail(json, error);
    json->at++;
    return true;
}

static bool enter(struct json *json, char bracket, const char *error)
{
    if (!take(json, bracket, error))
        return false;
    if (json->depth == JSON_DEPTH)
        return json_fail(json, "nested too deeply");
    json->first[json->depth++] = true;
    return true;
}

bool json_object(struct json *json)
{
    return enter(json, '{', "an object was expected");
}

bool json_array(struct json *json)
{
    return enter(json, '[', "a list was expected");
}

/* To the next entry of the innermost container; false at its end. */
static bool next(struct json *json, char bracket)
{
    if (json->error != NULL)
        return false;
    if (json->depth == 0)
        return json_fail(json, "not inside a container");
    if (peek(json) == (unsigned char)bracket) {
        json->at++;
        json->depth--;
        return false;
    }
    if (json->first[json->depth - 1])
        json->first[json->depth - 1] = false;
    else if (!take(json, ',', "a comma was expected"))
        return false;
    return true;
}

bool json_element(struct json *json)
{
    return next(json, ']');
}

bool json_member(struct json *json, char *key, size_t size)
{
    size_t length;
    return next(json, '}') && json_string(json, key, size, &length) && take(json, ':', "a colon was expected");
}

static bool hex4(struct json *json, uint32_t *value)
{
    if (json->end - json->at < 4)
        return json_fail(json, "cut short in an escape");
    *value = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char c = *json->at++;
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = c - '0';
        else if (c >= 'a' && c <= 'f')
            digit = c - 'a' + 10u;
        else if (c >= 'A' && c <= 'F')
            digit = c - 'A' + 10u;
        else
            return json_fail(json, "a bad \\u escape");
        *value = *value << 4 | digit;
    }
    return true;
}

/* Decodes what follows "\u" to at most four bytes; returns how many, 0 on error. */
static size_t unicode(struct json *json, char *out)
{
    uint32_t code, low;
    if (!hex4(json, &code))
        return 0;
    if (code == 0)
        return json_fail(json, "a NUL in a string"), 0;
    if (code >= 0xdc80 && code <= 0xdcff) {
        out[0] = (char)(code & 0xff);
        return 1;
    }
    if (code >= 0xd800 && code <= 0xdfff) {
        if (code >= 0xdc00 || json->end - json->at < 2 || json->at[0] != '\\' || json->at[1] != 'u')
            return json_fail(json, "a lone surrogate"), 0;
        json->at += 2;
        if (!hex4(json, &low))
            return 0;
        if (low < 0xdc00 || low > 0xdfff)
            return json_fail(json, "a lone surrogate"), 0;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    out[0] = (char)(lead[length] | code);
    return length;
}

static size_t escape(struct json *json, char *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (json->at == json->end)
        return json_fail(json, "cut short in an escape"), 0;
    char c = (char)*json->at++;
    if (c == 'u')
        return unicode(json, out);
    const char *found = c != '\0' ? strchr(from, c) : NULL;
    if (found == NULL)
        return json_fail(json, "an unknown escape"), 0;
    out[0] = to[found - from];
    return 1;
}

bool json_string(struct json *json, char *out, size_t size, size_t *length)
{
    size_t used = 0;
    if (!take(json, '"', "a string was expected"))
        return false;
    for (;;) {
        char piece[4];
        size_t count = 1;
        if (json->at == json->end)
            return json_fail(json, "cut short in a string");
        unsigned char c = *json->at++;
        if (c == '"')
            break;
        if (c < ' ')
            return json_fail(json, "a control character in a string");
        piece[0] = (char)c;
        if (c == '\\' && (count = escape(json, piece)) == 0)
            return false;
        if (used + count >= size)
            return json_fail(json, "a string that is too long");
        memcpy(out + used, piece, count);
        used += count;
    }
    if (size == 0)
        return json_fail(json, "a string that is too long");
    out[used] = '\0';
    *length = used;
    return true;
}

bool json_integer(struct json *json, int64_t least, int64_t most, int64_t *value)
{
    if (json->error != NULL)
        return false;
    int c = peek(json);
    bool negative = c == '-';
    if (negative)
        json->at++;
    const unsigned char *digits = json->at;
    int64_t number = 0;
    while (json->at < json->end && *json->at >= '0' && *json->at <= '9') {
        if (json->at - digits >= 18)
            return json_fail(json, "a number out of range");
        number = number * 10 + (*json->at++ - '0');
    }
    if (json->at == digits || (*digits == '0' && json->at - digits > 1))
        return json_fail(json, "a whole number was expected");
    if (json->at < json->end && (*json->at == '.' || *json->at == 'e' || *json->at == 'E'))
        return json_fail(json, "a whole number was expected");
    number = negative ? -number : number;
    if (number < least || number > most)
        return json_fail(json, "a number out of range");
    *value = number;
    return true;
}

bool json_boolean(struct json *json, bool *value)
{
    static const struct { const char *text; size_t length; bool value; } words[] = {{"true", 4, true}, {"false", 5, false}};
    if (json->error != NULL)
        return false;
    peek(json);
    for (size_t i = 0; i < 2; i++)
        if ((size_t)(json->end - json->at) >= words[i].length && memcmp(json->at, words[i].text, words[i].length) == 0) {
            json->at += words[i].length;
            *value = words[i].value;
            return true;
        }
    return json_fail(json, "true or false was expected");
}

bool json_end(struct json *json)
{
    if (json->error != NULL)
        return false;
    if (json->depth != 0 || peek(json) != -1)
        return json_fail(json, "something after the end");
    return true;
}
