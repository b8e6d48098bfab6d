/* Requests: what an operation carries out, after a moment, in a thread of its own. */
#ifndef HCS_REQUEST_H
#define HCS_REQUEST_H

#include "json.h"
#include "operation.h"
#include "result.h"
#include "system.h"

struct request {
    struct handle *handle; /* NULL: an enumeration */
    struct system *system;
    struct operation *operation;
    struct json *options; /* what the caller gave, parsed; NULL for none */
    char *mistake;        /* why it could not be parsed */
    char *document;       /* the result's, if there is one */
    struct verdict verdict;
};

/* With the state locked: do it, return how it went. */
typedef HRESULT carry_out(struct request *request);

/* Submit a request on a handle. The functions of computecore return what this returns. */
HRESULT request_submit(const char *name, HCS_OPERATION_TYPE type, HCS_SYSTEM system, HCS_OPERATION operation,
                       PCWSTR options, carry_out *work);

/* The same with the state locked, for a handle that may be NULL. `text` is taken over. */
HRESULT request_submit_on(const char *name, HCS_OPERATION_TYPE type, struct handle *handle, HCS_OPERATION operation,
                          char *text, carry_out *work);

/* Ask the system's bridge, if it has one; 0 where it has none. Takes the request over. */
HRESULT request_ask(struct request *request, struct json *question);

#endif
