#include "request.h"

#include <stdlib.h>

#include "bridge.h"
#include "codes.h"
#include "fault.h"
#include "platform.h"

struct errand {
    struct request request;
    struct fault fault;
    carry_out *work;
};

static void finish(struct errand *errand, HRESULT code)
{
    struct request *request = &errand->request;
    char *document = request->document;
    if (errand->fault.document != NULL && code != OK)
        document = duplicate(errand->fault.document);
    else if (code != OK && document == NULL)
        document = result_error(code, request->verdict.message);
    operation_complete(request->operation, code, document);
}

static void run(void *context)
{
    struct errand *errand = context;
    struct request *request = &errand->request;
    clock_sleep(errand->fault.delay);
    state_lock();
    if (errand->fault.disconnect) {
        systems_lose();
        finish(errand, HCS_SERVICE_DISCONNECT);
    } else if (errand->fault.code != OK)
        finish(errand, errand->fault.code);
    else if (request->mistake != NULL) {
        complain(&request->verdict, HCS_INVALID_JSON, "Invalid JSON document '$': %s", request->mistake);
        finish(errand, HCS_INVALID_JSON);
    } else {
        HRESULT code = errand->work(request);
        finish(errand, request->system != NULL && request->system->lost ? HCS_SERVICE_DISCONNECT : code);
    }
    state_unlock();
    json_free(request->options);
    free(request->mistake);
    free(request->verdict.message);
    free(errand->fault.document);
    free(errand);
}

HRESULT request_submit_on(const char *name, HCS_OPERATION_TYPE type, struct handle *handle, HCS_OPERATION given,
                          char *text, carry_out *work)
{
    struct operation *operation = operation_of(given);
    struct errand *errand = allocate(sizeof *errand);
    HRESULT code = OK;
    if (operation == NULL)
        code = INVALID_PARAMETER;
    else if (handle != NULL && handle->system->lost)
        code = HCS_SERVICE_DISCONNECT;
    else if (fault_take(name, &errand->fault) && errand->fault.immediate)
        code = errand->fault.code;
    else
        code = operation_begin(operation, type, handle);
    if (code != OK || errand->fault.never) {
        if (operation != NULL && errand->fault.immediate) { /* the operation may have words, though it never began */
            free(operation->document);
            operation->document = errand->fault.document;
        } else {
            free(errand->fault.document);
        }
        free(errand);
        free(text);
        return code;
    }
    errand->work = work;
    errand->request.handle = handle;
    errand->request.system = handle != NULL ? handle->system : NULL;
    errand->request.operation = operation;
    if (text != NULL && text[0] != '\0')
        errand->request.options = json_parse(text, &errand->request.mistake);
    free(text);
    thread_start(run, errand);
    return OK;
}

HRESULT request_submit(const char *name, HCS_OPERATION_TYPE type, HCS_SYSTEM given, HCS_OPERATION operation,
                       PCWSTR options, carry_out *work)
{
    state_lock();
    struct handle *handle = handle_of(given);
    HRESULT code =
        handle != NULL ? request_submit_on(name, type, handle, operation, narrow(options), work) : INVALID_PARAMETER;
    state_unlock();
    return code;
}

HRESULT request_ask(struct request *request, struct json *question)
{
    if (request->system->bridge == NULL) {
        json_free(question);
        return OK;
    }
    struct json *reply = bridge_ask(request->system->bridge, question);
    if (reply == NULL)
        return HCS_SERVICE_DISCONNECT;
    HRESULT code = (HRESULT)json_number(reply, "hresult", 0);
    if (code != OK)
        complain(&request->verdict, code, "%s", json_text(reply, "message", "the bridge refused"));
    json_free(reply);
    return code;
}
