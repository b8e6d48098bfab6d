/* What a document must fulfil beyond its shape: sizes, numbers, and the files that it names. */
#ifndef HCS_DOCUMENT_H
#define HCS_DOCUMENT_H

#include "json.h"
#include "result.h"

bool document_check(const struct json *document, struct verdict *verdict);

/* Each file is there, is what it is said to be, and machine `id` was granted access. With the state locked. */
bool document_check_files(const struct json *document, const char *id, struct verdict *verdict);

/* Parts that are also added later. `path` is how messages call them. */
bool document_check_lun(const char *lun, const char *path, struct verdict *verdict);
bool document_check_memory_size(const struct json *size, const char *path, struct verdict *verdict);
bool document_check_attachment(const struct json *attachment, const char *id, const char *path,
                               struct verdict *verdict);
bool document_check_share(const struct json *share, const char *id, bool as_user, const char *path,
                          struct verdict *verdict);

#endif
