#include "operation.h"

#include <stdlib.h>

#include "codes.h"
#include "notice.h"
#include "platform.h"
#include "system.h"
#include "text.h"

static struct operation *operations; /* all that were ever made */
static uint64_t latest_id;

struct operation *operation_of(HCS_OPERATION given)
{
    if (given == NULL)
        return NULL;
    for (struct operation *operation = operations; operation != NULL; operation = operation->next)
        if ((HCS_OPERATION)operation == given) {
            if (operation->closed)
                fatal("operation %p is used after HcsCloseOperation", (void *)given);
            return operation;
        }
    fatal("%p is no operation", (void *)given);
}

HRESULT operation_begin(struct operation *operation, HCS_OPERATION_TYPE type, struct handle *handle)
{
    if (operation->progress == OPERATION_PENDING)
        return HCS_OPERATION_ALREADY_STARTED;
    if (handle != NULL && operation->callback != NULL
        && (handle->options & HcsEventOptionEnableOperationCallbacks) != 0)
        return HCS_CALLBACK_ALREADY_SET;
    free(operation->document);
    operation->document = NULL;
    operation->progress = OPERATION_PENDING;
    operation->type = type;
    operation->handle = handle;
    operation->id = ++latest_id;
    return OK;
}

void operation_complete(struct operation *operation, HRESULT result, char *document)
{
    operation->progress = OPERATION_DONE;
    operation->result = result;
    operation->document = document;
    if (!operation->closed && operation->callback != NULL)
        notice_completion(operation);
    else if (!operation->closed && operation->handle != NULL
             && (operation->handle->options & HcsEventOptionEnableOperationCallbacks) != 0)
        notice_event(operation->handle, HcsEventOperationCallback, NULL, operation);
    state_wake();
}

HCS_OPERATION WINAPI HcsCreateOperation(const void *context, HCS_OPERATION_COMPLETION callback)
{
    struct operation *operation = allocate(sizeof *operation);
    operation->type = HcsOperationTypeNone;
    operation->context = (void *)context;
    operation->callback = callback;
    operation->id = UINT64_MAX;
    state_lock();
    operation->next = operations;
    operations = operation;
    state_unlock();
    return (HCS_OPERATION)operation;
}

void WINAPI HcsCloseOperation(HCS_OPERATION given)
{
    state_lock();
    struct operation *operation = operation_of(given);
    if (operation != NULL && operation->waiters > 0)
        fatal("operation %p is closed while another thread waits for its result", (void *)given);
    if (operation != NULL)
        operation->closed = true;
    state_unlock();
}

void *WINAPI HcsGetOperationContext(HCS_OPERATION given)
{
    state_lock();
    struct operation *operation = operation_of(given);
    void *context = operation != NULL ? operation->context : NULL;
    state_unlock();
    return context;
}

HRESULT WINAPI HcsSetOperationContext(HCS_OPERATION given, const void *context)
{
    state_lock();
    struct operation *operation = operation_of(given);
    if (operation != NULL)
        operation->context = (void *)context;
    state_unlock();
    return operation != NULL ? OK : INVALID_PARAMETER;
}

HCS_SYSTEM WINAPI HcsGetComputeSystemFromOperation(HCS_OPERATION given)
{
    state_lock();
    struct operation *operation = operation_of(given);
    struct handle *handle = operation != NULL ? operation->handle : NULL;
    state_unlock();
    return (HCS_SYSTEM)handle;
}

HCS_OPERATION_TYPE WINAPI HcsGetOperationType(HCS_OPERATION given)
{
    state_lock();
    struct operation *operation = operation_of(given);
    HCS_OPERATION_TYPE type = operation != NULL ? operation->type : HcsOperationTypeNone;
    state_unlock();
    return type;
}

UINT64 WINAPI HcsGetOperationId(HCS_OPERATION given)
{
    state_lock();
    struct operation *operation = operation_of(given);
    uint64_t id = operation != NULL ? operation->id : UINT64_MAX;
    state_unlock();
    return id;
}

/* The result as it is now, with a document of the caller's own. */
static HRESULT result_of(const struct operation *operation, PWSTR *document)
{
    if (operation->progress == OPERATION_PENDING)
        return HCS_OPERATION_PENDING;
    if (document != NULL)
        *document = widen(operation->document);
    return operation->progress == OPERATION_IDLE ? HCS_OPERATION_NOT_STARTED : operation->result;
}

HRESULT WINAPI HcsGetOperationResult(HCS_OPERATION given, PWSTR *document)
{
    if (document != NULL)
        *document = NULL;
    state_lock();
    struct operation *operation = operation_of(given);
    HRESULT result = operation != NULL ? result_of(operation, document) : INVALID_PARAMETER;
    state_unlock();
    return result;
}

HRESULT WINAPI HcsWaitForOperationResult(HCS_OPERATION given, DWORD milliseconds, PWSTR *document)
{
    if (document != NULL)
        *document = NULL;
    uint64_t until = clock_now() + milliseconds;
    state_lock();
    struct operation *operation = operation_of(given);
    if (operation == NULL) {
        state_unlock();
        return INVALID_PARAMETER;
    }
    operation->waiters++;
    while (operation->progress == OPERATION_PENDING) {
        uint64_t now = clock_now();
        if (milliseconds != INFINITE && now >= until)
            break;
        state_wait(milliseconds == INFINITE ? INFINITE : (uint32_t)(until - now));
    }
    operation->waiters--;
    HRESULT result = result_of(operation, document);
    state_unlock();
    return result == HCS_OPERATION_PENDING ? HCS_OPERATION_TIMEOUT : result;
}

HRESULT WINAPI HcsSetOperationCallback(HCS_OPERATION given, const void *context, HCS_OPERATION_COMPLETION callback)
{
    state_lock();
    struct operation *operation = operation_of(given);
    HRESULT result = operation == NULL                          ? INVALID_PARAMETER
                     : operation->progress == OPERATION_PENDING ? HCS_OPERATION_ALREADY_STARTED
                                                                : OK;
    if (result == OK) {
        operation->context = (void *)context;
        operation->callback = callback;
    }
    state_unlock();
    return result;
}

HRESULT WINAPI HcsCancelOperation(HCS_OPERATION given)
{
    state_lock();
    operation_of(given);
    state_unlock();
    return NOT_IMPLEMENTED;
}
