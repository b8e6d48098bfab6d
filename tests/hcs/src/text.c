#include "text.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform.h"

void *allocate(size_t size)
{
    void *memory = calloc(1, size);
    if (memory == NULL)
        fatal("out of memory");
    return memory;
}

char *duplicate(const char *text)
{
    size_t length = strlen(text) + 1;
    return memcpy(allocate(length), text, length);
}

void text_add(struct text *text, const char *data, size_t length)
{
    if (text->length + length + 1 > text->room) {
        text->room = 2 * (text->length + length) + 64;
        text->data = realloc(text->data, text->room);
        if (text->data == NULL)
            fatal("out of memory");
    }
    memcpy(text->data + text->length, data, length);
    text->length += length;
    text->data[text->length] = '\0';
}

static void format_list(struct text *text, const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    char *piece = allocate((size_t)length + 1);
    vsnprintf(piece, (size_t)length + 1, format, arguments);
    text_add(text, piece, (size_t)length);
    free(piece);
}

void text_format(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    format_list(text, format, arguments);
    va_end(arguments);
}

char *format(const char *format, ...)
{
    struct text text = {0};
    va_list arguments;
    va_start(arguments, format);
    format_list(&text, format, arguments);
    va_end(arguments);
    return text.data;
}

static void add_character(struct text *text, uint32_t code)
{
    char bytes[4];
    size_t length;
    if (code < 0x80) {
        bytes[0] = (char)code;
        length = 1;
    } else if (code < 0x800) {
        bytes[0] = (char)(0xc0 | code >> 6);
        bytes[1] = (char)(0x80 | (code & 0x3f));
        length = 2;
    } else if (code < 0x10000) {
        bytes[0] = (char)(0xe0 | code >> 12);
        bytes[1] = (char)(0x80 | (code >> 6 & 0x3f));
        bytes[2] = (char)(0x80 | (code & 0x3f));
        length = 3;
    } else {
        bytes[0] = (char)(0xf0 | code >> 18);
        bytes[1] = (char)(0x80 | (code >> 12 & 0x3f));
        bytes[2] = (char)(0x80 | (code >> 6 & 0x3f));
        bytes[3] = (char)(0x80 | (code & 0x3f));
        length = 4;
    }
    text_add(text, bytes, length);
}

char *narrow(PCWSTR wide)
{
    if (wide == NULL)
        return NULL;
    struct text text = {0};
    text_add(&text, "", 0);
    while (*wide != L'\0') {
        uint32_t code = (uint32_t)*wide++;
        if (code >= 0xd800 && code < 0xdc00 && sizeof(wchar_t) == 2 && ((uint32_t)*wide & 0xfc00) == 0xdc00)
            code = 0x10000 + ((code & 0x3ff) << 10) + ((uint32_t)*wide++ & 0x3ff);
        if ((code >= 0xd800 && code < 0xe000) || code > 0x10ffff)
            code = 0xfffd;
        add_character(&text, code);
    }
    return text.data;
}

PWSTR widen(const char *narrow)
{
    if (narrow == NULL)
        return NULL;
    PWSTR wide = local_alloc((strlen(narrow) + 1) * sizeof(wchar_t)), at = wide;
    if (wide == NULL)
        fatal("out of memory");
    for (const unsigned char *byte = (const unsigned char *)narrow; *byte != '\0';) {
        int more = *byte >= 0xf0 ? 3 : *byte >= 0xe0 ? 2 : *byte >= 0xc0 ? 1 : 0;
        uint32_t code = more == 0 ? *byte : *byte & (0x3fu >> more);
        for (byte++; more > 0 && (*byte & 0xc0) == 0x80; more--)
            code = code << 6 | (*byte++ & 0x3f);
        if (sizeof(wchar_t) == 2 && code >= 0x10000) {
            *at++ = (wchar_t)(0xd7c0 + (code >> 10));
            code = 0xdc00 | (code & 0x3ff);
        }
        *at++ = (wchar_t)code;
    }
    *at = L'\0';
    return wide;
}

bool guid_valid(const char *text)
{
    for (int at = 0; at < GUID_TEXT - 1; at++) {
        bool dash = at == 8 || at == 13 || at == 18 || at == 23;
        if (dash ? text[at] != '-' : !isxdigit((unsigned char)text[at]))
            return false;
    }
    return text[GUID_TEXT - 1] == '\0';
}

void guid_derive(const char *name, char guid[GUID_TEXT])
{
    uint64_t half[2] = {0xcbf29ce484222325u, 0x9ae16a3b2f90404fu};
    for (int which = 0; which < 2; which++) /* FNV-1a, twice with different starts */
        for (const char *at = name; *at != '\0'; at++)
            half[which] = (half[which] ^ (unsigned char)*at) * 0x100000001b3u;
    snprintf(guid, GUID_TEXT, "%08x-%04x-5%03x-a%03x-%012llx", (unsigned)(half[0] >> 32),
             (unsigned)(half[0] >> 16 & 0xffff), (unsigned)(half[0] & 0xfff), (unsigned)(half[1] >> 52),
             (unsigned long long)(half[1] & 0xffffffffffffu));
}

void lower(char *text)
{
    for (; *text != '\0'; text++)
        *text = (char)tolower((unsigned char)*text);
}

bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool ends_with_any_case(const char *text, const char *suffix)
{
    size_t length = strlen(text), tail = strlen(suffix);
    if (length < tail)
        return false;
    for (size_t at = 0; at < tail; at++)
        if (tolower((unsigned char)text[length - tail + at]) != tolower((unsigned char)suffix[at]))
            return false;
    return true;
}
