/* Operations: one request at a time, a result that is waited for or told to a callback. Their handles are never reused,
 * so that the use of a closed one is always seen. All but `operation_complete` is called with the state locked.
 */
#ifndef HCS_OPERATION_H
#define HCS_OPERATION_H

#include "types.h"

struct handle;

enum progress { OPERATION_IDLE, OPERATION_PENDING, OPERATION_DONE };

struct operation {
    bool closed;
    enum progress progress;
    HCS_OPERATION_TYPE type;
    uint64_t id;
    HRESULT result;
    char *document;
    HCS_OPERATION_COMPLETION callback;
    void *context;
    struct handle *handle; /* of the latest request; NULL for an enumeration */
    int waiters;
    struct operation *next;
};

struct operation *operation_of(HCS_OPERATION operation); /* NULL for NULL; ends the process for one that is closed */
HRESULT operation_begin(struct operation *operation, HCS_OPERATION_TYPE type, struct handle *handle);

/* Takes `document` over; tells whoever waits or asked to be told. With the state locked. */
void operation_complete(struct operation *operation, HRESULT result, char *document);

#endif
