#include "notice.h"

#include <stdlib.h>

#include "operation.h"
#include "platform.h"
#include "system.h"
#include "text.h"

struct notice {
    struct handle *handle; /* NULL: the completion of an operation */
    struct operation *operation;
    uint32_t type;
    char *data;
    struct notice *next;
};

static struct notice *queue;
static bool running;
static uint64_t caller;       /* the thread that calls */
static struct handle *called; /* whose callback it is in */

static void deliver(struct notice *notice)
{
    struct handle *handle = notice->handle;
    if (handle == NULL) {
        HCS_OPERATION_COMPLETION callback = notice->operation->callback;
        void *context = notice->operation->context;
        if (notice->operation->closed || callback == NULL)
            return;
        state_unlock();
        callback((HCS_OPERATION)notice->operation, context);
        state_lock();
        return;
    }
    if (handle->closed || handle->callback == NULL)
        return;
    HCS_EVENT_CALLBACK callback = handle->callback;
    void *context = handle->context;
    called = handle;
    state_unlock();
    /* strings are valid during the call only: whoever keeps the pointer reads what lies there then */
    PWSTR data = widen(notice->data);
    HCS_EVENT event = {.Type = notice->type, .EventData = data, .Operation = (HCS_OPERATION)notice->operation};
    callback(&event, context);
    for (PWSTR at = data; at != NULL && *at != L'\0'; at++)
        *at = L'?';
    LocalFree(data);
    state_lock();
    called = NULL;
    state_wake();
}

static void call(void *context)
{
    (void)context;
    state_lock();
    caller = thread_self();
    for (;;) {
        while (queue == NULL)
            state_wait(INFINITE);
        struct notice *notice = queue;
        queue = notice->next;
        deliver(notice);
        free(notice->data);
        free(notice);
    }
}

static void enqueue(struct notice notice)
{
    struct notice *copy = allocate(sizeof *copy), **link = &queue;
    *copy = notice;
    while (*link != NULL)
        link = &(*link)->next;
    *link = copy;
    if (!running)
        thread_start(call, NULL);
    running = true;
    state_wake();
}

void notice_event(struct handle *handle, uint32_t type, const char *data, struct operation *operation)
{
    enqueue((struct notice){handle, operation, type, data != NULL ? duplicate(data) : NULL, NULL});
}

void notice_completion(struct operation *operation)
{
    enqueue((struct notice){NULL, operation, 0, NULL, NULL});
}

bool notice_in_callback(void)
{
    return running && thread_self() == caller;
}

void notice_drain(struct handle *handle)
{
    while (called == handle)
        state_wait(INFINITE);
}
