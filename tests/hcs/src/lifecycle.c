/* The exports that create, open, start, change and end compute systems. */
#include <stdlib.h>
#include <string.h>

#include "bridge.h"
#include "codes.h"
#include "document.h"
#include "fault.h"
#include "modify.h"
#include "notice.h"
#include "platform.h"
#include "request.h"
#include "schema.h"

#define MOST_ID 128
#define ENDED_ITSELF OK
#define FORCED CODE(0xc0370107u)
#define ACCESS_ALL 0x10000000u

static bool id_valid(const char *id)
{
    if (id == NULL || id[0] == '\0' || strlen(id) > MOST_ID)
        return false;
    for (const unsigned char *at = (const unsigned char *)id; *at != '\0'; at++)
        if (*at <= ' ' || strchr("/\\:*?\"<>|", *at) != NULL)
            return false;
    return true;
}

/* What the bridge says of a machine unasked. */
static void take_event(void *context, const struct json *event)
{
    struct system *system = context;
    const char *name = event != NULL ? json_text(event, "event", "") : "lost";
    if (strcmp(name, "lost") == 0) {
        system->lost = true;
        system_tell(system, HcsEventServiceDisconnect, NULL);
    } else if (strcmp(name, "exited") == 0) {
        const char *type = json_text(event, "type", "Unknown");
        const struct json *attribution = json_get(event, "attribution");
        system_exited(system, (HRESULT)json_number(event, "status", 0), type,
                      attribution != NULL ? json_copy(attribution) : NULL);
    } else if (strcmp(name, "crashed") == 0)
        system_crashed(system, json_text(event, "log", ""));
    else if (strcmp(name, "state") == 0)
        system_state_from(json_text(event, "state", ""), &system->state);
    else
        fatal("the bridge tells of '%s'", name);
}

static HRESULT connect_bridge(struct request *request, const char *operation)
{
    struct system *system = request->system;
    if (!bridge_wanted())
        return OK;
    system->bridge = bridge_open(take_event, system);
    if (system->bridge == NULL)
        return SERVICE_NOT_AVAILABLE;
    struct json *question = bridge_request(operation, system->id);
    json_set(question, "runtime", json_string(system->runtime));
    json_set(question, "document", json_copy(system->document));
    uint32_t after = 0;
    json_set(question, "silent", json_boolean(fault_guest(&after) == GUEST_HANGS));
    HRESULT code = request_ask(request, question);
    if (code != OK) {
        bridge_close(system->bridge);
        system->bridge = NULL;
    }
    return code;
}

static HRESULT create(struct request *request)
{
    struct system *system = request->system;
    struct verdict *verdict = &request->verdict;
    if (!document_check(system->document, verdict) || !document_check_files(system->document, system->id, verdict))
        return verdict->code;
    if (system_find(system->id) != NULL)
        return HCS_SYSTEM_ALREADY_EXISTS;
    system_list(system);
    HRESULT code = connect_bridge(request, "create");
    if (code != OK)
        system_forget(system);
    return code;
}

static HRESULT no_document(struct request *request)
{
    complain(&request->verdict, HCS_INVALID_JSON, "Invalid JSON document '$': %s",
             json_text(request->options, "mistake", ""));
    return request->verdict.code;
}

HRESULT WINAPI HcsCreateComputeSystem(PCWSTR wide_id, PCWSTR configuration, HCS_OPERATION operation,
                                      const SECURITY_DESCRIPTOR *security, HCS_SYSTEM *result)
{
    (void)security;
    char *id = narrow(wide_id), *text = narrow(configuration), *mistake = NULL;
    if (result != NULL)
        *result = NULL;
    if (result == NULL || text == NULL || !id_valid(id)) {
        free(id);
        free(text);
        return INVALID_PARAMETER;
    }
    struct json *document = json_parse(text, &mistake), *options = NULL;
    carry_out *work = create;
    if (document == NULL) {
        document = json_object();
        options = json_object();
        json_set(options, "mistake", json_string(mistake));
        work = no_document;
    }
    state_lock();
    struct handle *handle = handle_open(system_make(id, document));
    char *message = options != NULL ? json_write(options) : NULL;
    HRESULT code =
        request_submit_on("HcsCreateComputeSystem", HcsOperationTypeCreate, handle, operation, message, work);
    if (code == OK)
        *result = (HCS_SYSTEM)handle;
    else
        handle_close(handle);
    state_unlock();
    json_free(options);
    free(mistake);
    free(text);
    free(id);
    return code;
}

/* A system that another process made: the bridge knows it. */
static HRESULT open_elsewhere(const char *id, struct system **system)
{
    if (!bridge_wanted())
        return HCS_SYSTEM_NOT_FOUND;
    struct json *reply = bridge_ask_once(bridge_request("find", id)), *document = json_get(reply, "document");
    if (reply == NULL || document == NULL) {
        json_free(reply);
        return reply == NULL ? SERVICE_NOT_AVAILABLE : HCS_SYSTEM_NOT_FOUND;
    }
    struct json *copy = json_copy(document);
    free(copy->key);
    copy->key = NULL;
    *system = system_make(id, copy);
    system_state_from(json_text(reply, "state", ""), &(*system)->state);
    json_free(reply);
    struct request request = {.system = *system};
    HRESULT code = connect_bridge(&request, "open");
    free(request.verdict.message);
    if (code == OK)
        system_list(*system);
    return code;
}

HRESULT WINAPI HcsOpenComputeSystem(PCWSTR wide_id, DWORD access, HCS_SYSTEM *result)
{
    char *id = narrow(wide_id);
    if (result != NULL)
        *result = NULL;
    if (result == NULL || id == NULL) {
        free(id);
        return INVALID_PARAMETER;
    }
    state_lock();
    struct fault fault;
    HRESULT code = access == ACCESS_ALL ? OK : ACCESS_DENIED;
    if (fault_take("HcsOpenComputeSystem", &fault))
        code = fault.code;
    struct system *system = code == OK ? system_find(id) : NULL;
    if (code == OK && system == NULL)
        code = open_elsewhere(id, &system);
    if (code == OK)
        *result = (HCS_SYSTEM)handle_open(system);
    state_unlock();
    free(fault.document);
    free(id);
    return code;
}

void WINAPI HcsCloseComputeSystem(HCS_SYSTEM given)
{
    state_lock();
    struct handle *handle = handle_of(given);
    if (handle != NULL && notice_in_callback())
        fatal("HcsCloseComputeSystem is called from a callback, which it would wait for");
    if (handle != NULL && handle->waiters > 0)
        fatal("compute system %p is closed while another thread is in a call on it", (void *)given);
    if (handle != NULL)
        handle_close(handle);
    state_unlock();
}

/* The fate that was ordered for a guest. */
struct fate {
    struct system *system;
    enum guest_fate fate;
    uint32_t after;
};

static void meet_fate(void *context)
{
    struct fate fate = *(struct fate *)context;
    free(context);
    clock_sleep(fate.after);
    state_lock();
    struct json *attribution = NULL, *fault;
    switch (fate.fate) {
    case GUEST_CRASHES:
        system_crashed(fate.system, "Kernel panic - not syncing: ordered by the test");
        break;
    case GUEST_EXITS:
        system_exited(fate.system, ENDED_ITSELF, "GracefulExit", NULL);
        break;
    case GUEST_TRIPLE_FAULTS:
        attribution = json_object();
        fault = json_object();
        json_set(fault, "ErrorType", json_string("None"));
        json_set(attribution, "TripleFault", fault);
        system_exited(fate.system, HCS_GUEST_CRITICAL_ERROR, "UnexpectedExit", attribution);
        break;
    case GUEST_LOSES_SERVICE:
        systems_lose();
        break;
    default:
        break;
    }
    if (fate.system->bridge != NULL && fate.system->state == STATE_STOPPED)
        json_free(bridge_ask(fate.system->bridge, bridge_request("terminate", fate.system->id)));
    state_unlock();
}

static HRESULT start(struct request *request)
{
    struct system *system = request->system;
    if (system->state == STATE_STOPPED)
        return HCS_SYSTEM_ALREADY_STOPPED;
    if (system->state != STATE_CREATED || !system->listed)
        return HCS_INVALID_STATE;
    if (!document_check_files(system->document, system->id, &request->verdict))
        return request->verdict.code;
    HRESULT code = request_ask(request, bridge_request("start", system->id));
    if (code != OK)
        return code;
    if (system->state == STATE_CREATED)
        system->state = STATE_RUNNING;
    const struct json *ports = json_at(system->document, "VirtualMachine/Devices/ComPorts");
    const char *pipe = json_text(json_get(ports, "0"), "NamedPipe", NULL);
    if (system->bridge != NULL && pipe != NULL)
        bridge_relay_console(system->id, pipe);
    struct fate fate = {.system = system};
    fate.fate = fault_guest(&fate.after);
    if (fate.fate != GUEST_RUNS && fate.fate != GUEST_HANGS) {
        struct fate *copy = allocate(sizeof *copy);
        *copy = fate;
        thread_start(meet_fate, copy);
    }
    return OK;
}

HRESULT WINAPI HcsStartComputeSystem(HCS_SYSTEM system, HCS_OPERATION operation, PCWSTR options)
{
    return request_submit("HcsStartComputeSystem", HcsOperationTypeStart, system, operation, options, start);
}

static HRESULT terminate(struct request *request)
{
    struct system *system = request->system;
    if (system->state == STATE_STOPPED)
        return HCS_SYSTEM_ALREADY_STOPPED;
    if (!system->listed)
        return HCS_INVALID_STATE;
    HRESULT code = request_ask(request, bridge_request("terminate", system->id));
    if (code == OK)
        system_exited(system, FORCED, "ForcedExit", NULL);
    return code;
}

HRESULT WINAPI HcsTerminateComputeSystem(HCS_SYSTEM system, HCS_OPERATION operation, PCWSTR options)
{
    return request_submit("HcsTerminateComputeSystem", HcsOperationTypeTerminate, system, operation, options,
                          terminate);
}

static HRESULT shut_down(struct request *request)
{
    struct system *system = request->system;
    const struct json *vm = json_get(system->document, "VirtualMachine");
    if (system->state == STATE_STOPPED)
        return HCS_SYSTEM_ALREADY_STOPPED;
    if (system->state != STATE_RUNNING)
        return HCS_INVALID_STATE;
    if (request->options != NULL && !schema_check(request->options, &shutdown_options, "$", &request->verdict))
        return request->verdict.code;
    bool service = strcmp(json_text(request->options, "Mechanism", ""), "IntegrationService") == 0;
    if (!service || json_at(vm, "Services/Shutdown") == NULL) {
        complain(&request->verdict, NOT_SUPPORTED, "nothing in the guest is connected that could shut it down");
        return NOT_SUPPORTED;
    }
    HRESULT code = request_ask(request, bridge_request("shutdown", system->id));
    if (code == OK && system->bridge == NULL)
        system_exited(system, ENDED_ITSELF, "GracefulExit", NULL);
    return code;
}

HRESULT WINAPI HcsShutDownComputeSystem(HCS_SYSTEM system, HCS_OPERATION operation, PCWSTR options)
{
    return request_submit("HcsShutDownComputeSystem", HcsOperationTypeShutdown, system, operation, options, shut_down);
}

static HRESULT crash(struct request *request)
{
    struct system *system = request->system;
    if (system->state == STATE_STOPPED)
        return HCS_SYSTEM_ALREADY_STOPPED;
    if (system->state != STATE_RUNNING)
        return HCS_INVALID_STATE;
    if (request->options != NULL && !schema_check(request->options, &crash_options, "$", &request->verdict))
        return request->verdict.code;
    HRESULT code = request_ask(request, bridge_request("terminate", system->id));
    if (code == OK)
        system_crashed(system, "Kernel panic - not syncing: NMI");
    return code;
}

HRESULT WINAPI HcsCrashComputeSystem(HCS_SYSTEM system, HCS_OPERATION operation, PCWSTR options)
{
    return request_submit("HcsCrashComputeSystem", HcsOperationTypeCrash, system, operation, options, crash);
}

/* Between two states, by a request of the same name to the bridge. */
static HRESULT move(struct request *request, const char *name, enum state from, enum state to)
{
    struct system *system = request->system;
    if (system->state == STATE_STOPPED)
        return HCS_SYSTEM_ALREADY_STOPPED;
    if (system->state != from)
        return HCS_INVALID_STATE;
    HRESULT code = request_ask(request, bridge_request(name, system->id));
    if (code == OK && system->state == from)
        system->state = to;
    return code;
}

static HRESULT pause_system(struct request *request)
{
    if (request->options != NULL && !schema_check(request->options, &pause_options, "$", &request->verdict))
        return request->verdict.code;
    return move(request, "pause", STATE_RUNNING, STATE_PAUSED);
}

HRESULT WINAPI HcsPauseComputeSystem(HCS_SYSTEM system, HCS_OPERATION operation, PCWSTR options)
{
    return request_submit("HcsPauseComputeSystem", HcsOperationTypePause, system, operation, options, pause_system);
}

static HRESULT resume(struct request *request)
{
    return move(request, "resume", STATE_PAUSED, STATE_RUNNING);
}

HRESULT WINAPI HcsResumeComputeSystem(HCS_SYSTEM system, HCS_OPERATION operation, PCWSTR options)
{
    return request_submit("HcsResumeComputeSystem", HcsOperationTypeResume, system, operation, options, resume);
}

/* The file that a save leaves here says only whose it is: the stand-in does not restore machines. */
static HRESULT save(struct request *request)
{
    struct system *system = request->system;
    if (system->state == STATE_STOPPED)
        return HCS_SYSTEM_ALREADY_STOPPED;
    if (system->state != STATE_PAUSED)
        return HCS_INVALID_STATE;
    if (request->options == NULL)
        return INVALID_PARAMETER;
    if (!schema_check(request->options, &save_options, "$", &request->verdict))
        return request->verdict.code;
    if (strcmp(json_text(request->options, "SaveType", ""), "AsTemplate") == 0) {
        system->state = STATE_TEMPLATE;
        return OK;
    }
    const char *path = json_text(request->options, "SaveStateFilePath", NULL);
    return path != NULL ? file_create_empty(path) : INVALID_PARAMETER;
}

HRESULT WINAPI HcsSaveComputeSystem(HCS_SYSTEM system, HCS_OPERATION operation, PCWSTR options)
{
    return request_submit("HcsSaveComputeSystem", HcsOperationTypeSave, system, operation, options, save);
}

HRESULT WINAPI HcsModifyComputeSystem(HCS_SYSTEM system, HCS_OPERATION operation, PCWSTR configuration, HANDLE identity)
{
    return request_submit("HcsModifyComputeSystem", HcsOperationTypeModify, system, operation, configuration,
                          identity != NULL ? modify_as_user : modify);
}

HRESULT WINAPI HcsSetComputeSystemCallback(HCS_SYSTEM given, HCS_EVENT_OPTIONS options, const void *context,
                                           HCS_EVENT_CALLBACK callback)
{
    state_lock();
    struct handle *handle = handle_of(given);
    struct fault fault = {0};
    HRESULT code = handle == NULL ? INVALID_PARAMETER : handle->system->lost ? HCS_SERVICE_DISCONNECT : OK;
    if (code == OK && fault_take("HcsSetComputeSystemCallback", &fault))
        code = fault.code;
    if (code == OK) {
        handle->options = (uint32_t)options;
        handle->context = (void *)context;
        handle->callback = callback;
    }
    state_unlock();
    free(fault.document);
    return code;
}

HRESULT WINAPI HcsWaitForComputeSystemExit(HCS_SYSTEM given, DWORD milliseconds, PWSTR *document)
{
    if (document != NULL)
        *document = NULL;
    uint64_t until = clock_now() + milliseconds;
    state_lock();
    struct handle *handle = handle_of(given);
    if (handle == NULL) {
        state_unlock();
        return INVALID_PARAMETER;
    }
    struct system *system = handle->system;
    handle->waiters++;
    while (system->exit == NULL && !system->lost) {
        uint64_t now = clock_now();
        if (milliseconds != INFINITE && now >= until)
            break;
        state_wait(milliseconds == INFINITE ? INFINITE : (uint32_t)(until - now));
    }
    handle->waiters--;
    HRESULT code = system->exit != NULL ? OK : system->lost ? HCS_SERVICE_DISCONNECT : HCS_OPERATION_TIMEOUT;
    if (document != NULL)
        *document = widen(system->exit);
    state_unlock();
    return code;
}
