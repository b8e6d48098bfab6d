/* Lines of JSON that builtins print: one object for each thing that is told. */
#ifndef PROPOLIS_RECORD_H
#define PROPOLIS_RECORD_H

#include <stdint.h>
#include <sys/stat.h>

void record_open(void);
void record_close(void);
void record_number(const char *key, int64_t value);
void record_pair(const char *key, unsigned first, unsigned second);

/* Control characters are escaped; bytes that are not UTF-8 stay as they are. */
void record_string(const char *key, const char *value);

/* What stat(2) told, times in ns. */
void record_status(const struct stat *status);

/* A list of objects: record_list, then record_open and record_close for each, then record_list_end. */
void record_list(const char *key);
void record_list_end(void);

#endif
