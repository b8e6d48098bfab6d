/* Text: UTF-8 inside, wchar_t of the platform outside; a buffer that grows; GUIDs. Out of memory ends the process. */
#ifndef HCS_TEXT_H
#define HCS_TEXT_H

#include "types.h"

#ifdef __MINGW32__
#define PRINTF(at, first) __attribute__((format(gnu_printf, at, first)))
#else
#define PRINTF(at, first) __attribute__((format(printf, at, first)))
#endif

struct text {
    char *data; /* ends in NUL, NULL while empty */
    size_t length, room;
};

void *allocate(size_t size); /* zeroed */
char *duplicate(const char *text);

void text_add(struct text *text, const char *data, size_t length);
void text_format(struct text *text, const char *format, ...) PRINTF(2, 3);
char *format(const char *format, ...) PRINTF(1, 2);

char *narrow(PCWSTR wide);       /* NULL gives NULL; a lone surrogate becomes U+FFFD */
PWSTR widen(const char *narrow); /* freed by LocalFree; NULL gives NULL */

#define GUID_TEXT 37
bool guid_valid(const char *text);                        /* 8-4-4-4-12 hexadecimal digits */
void guid_derive(const char *name, char guid[GUID_TEXT]); /* the same name gives the same GUID */
void lower(char *text);

bool starts_with(const char *text, const char *prefix);
bool ends_with_any_case(const char *text, const char *suffix);

#endif
