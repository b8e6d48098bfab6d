/* The exports that tell what there is: of a system, of all systems, of the service. */
#include <stdlib.h>
#include <string.h>

#include "bridge.h"
#include "codes.h"
#include "fault.h"
#include "platform.h"
#include "request.h"
#include "schema.h"

#define HUNDRED_NS_PER_MS 10000

static bool lists(const struct json *query, const char *member, const char *value)
{
    const struct json *list = json_get(query, member);
    for (const struct json *entry = list != NULL ? list->first : NULL; entry != NULL; entry = entry->next)
        if (strcmp(entry->string, value) == 0)
            return true;
    return false;
}

static void add_memory(struct json *properties, const struct system *system)
{
    int64_t size = json_number(json_at(system->document, "VirtualMachine/ComputeTopology/Memory"), "SizeInMB", 0);
    struct json *vm = json_object(), *memory = json_object();
    json_set(vm, "AvailableMemory", json_integer(size));
    json_set(vm, "AvailableMemoryBuffer", json_integer(0));
    json_set(vm, "ReservedMemory", json_integer(0));
    json_set(vm, "AssignedMemory", json_integer(size * 256)); /* pages of 4 KiB */
    json_set(vm, "SlpActive", json_boolean(false));
    json_set(memory, "VirtualMachineMemory", vm);
    json_set(properties, "Memory", memory);
}

static void add_statistics(struct json *properties)
{
    struct json *statistics = json_object(), *processor = json_object();
    json_set(processor, "TotalRuntime100ns", json_integer(0));
    json_set(statistics, "Uptime100ns", json_integer((int64_t)(clock_now() * HUNDRED_NS_PER_MS)));
    json_set(statistics, "Processor", processor);
    json_set(properties, "Statistics", statistics);
}

static HRESULT get_properties(struct request *request)
{
    struct system *system = request->system;
    if (request->options != NULL && !schema_check(request->options, &property_query, "$", &request->verdict))
        return request->verdict.code;
    if (system->state == STATE_STOPPED)
        return HCS_SYSTEM_ALREADY_STOPPED;
    if (!system->listed)
        return HCS_SYSTEM_NOT_FOUND;
    struct json *properties = system_properties(system);
    if (lists(request->options, "PropertyTypes", "Memory"))
        add_memory(properties, system);
    if (lists(request->options, "PropertyTypes", "Statistics"))
        add_statistics(properties);
    if (lists(request->options, "PropertyTypes", "TerminateOnLastHandleClosed"))
        json_set(properties, "TerminateOnLastHandleClosed", json_boolean(system->dies_with_handles));
    request->document = json_write(properties);
    json_free(properties);
    return OK;
}

HRESULT WINAPI HcsGetComputeSystemProperties(HCS_SYSTEM system, HCS_OPERATION operation, PCWSTR query)
{
    return request_submit("HcsGetComputeSystemProperties", HcsOperationTypeGetProperties, system, operation, query,
                          get_properties);
}

/* A list that is absent or empty asks for everything. */
static bool wanted(const struct json *query, const char *member, const char *value)
{
    const struct json *list = json_get(query, member);
    return list == NULL || list->first == NULL || lists(query, member, value);
}

static HRESULT enumerate(struct request *request)
{
    const struct json *query = request->options;
    if (query != NULL && !schema_check(query, &system_query, "$", &request->verdict))
        return request->verdict.code;
    struct json *all = systems_properties(), *some = json_array();
    if (all == NULL) {
        json_free(some);
        return SERVICE_NOT_AVAILABLE;
    }
    for (const struct json *system = all->first; system != NULL; system = system->next)
        if (wanted(query, "Ids", json_text(system, "Id", "")) && wanted(query, "Names", json_text(system, "Name", ""))
            && wanted(query, "Types", json_text(system, "SystemType", ""))
            && wanted(query, "Owners", json_text(system, "Owner", "")))
            json_add(some, json_copy(system));
    request->document = json_write(some);
    json_free(all);
    json_free(some);
    return OK;
}

HRESULT WINAPI HcsEnumerateComputeSystems(PCWSTR query, HCS_OPERATION operation)
{
    state_lock();
    HRESULT code = request_submit_on("HcsEnumerateComputeSystems", HcsOperationTypeEnumerate, NULL, operation,
                                     narrow(query), enumerate);
    state_unlock();
    return code;
}

static struct json *schema_versions(void)
{
    struct json *versions = json_array();
    for (int major = 1; major <= 2; major++) {
        struct json *version = json_object();
        json_set(version, "Major", json_integer(major));
        json_set(version, "Minor", json_integer(major == 1 ? 0 : schema_minor()));
        json_add(versions, version);
    }
    return versions;
}

static char *service_document(const struct json *query)
{
    struct json *answer = json_object(), *list = json_array(), *basic = json_object();
    if (query == NULL || lists(query, "PropertyTypes", "Basic")) {
        json_set(basic, "SupportedSchemaVersions", schema_versions());
        json_add(list, basic);
    } else
        json_free(basic);
    json_set(answer, "Properties", list);
    if (json_at(query, "PropertyQueries/ProcessorCapabilities") != NULL) {
        struct json *responses = json_object(), *capabilities = json_object(), *response = json_object();
        json_set(response, "ProcessorFeatures", json_array());
        json_set(capabilities, "Response", response);
        json_set(responses, "ProcessorCapabilities", capabilities);
        json_set(answer, "PropertyResponses", responses);
    }
    char *text = json_write(answer);
    json_free(answer);
    return text;
}

/* Synchronous calls of the service: faults, then `make`, whose result is handed out. */
static HRESULT answer(const char *name, PCWSTR wide, const struct shape *shape, char *(*make)(const struct json *),
                      PWSTR *result)
{
    char *text = narrow(wide), *document = NULL, *mistake = NULL;
    struct verdict verdict = {0};
    struct json *query = NULL;
    struct fault fault;
    state_lock();
    HRESULT code = fault_take(name, &fault) ? fault.code : OK;
    if (code == OK && bridge_wanted()) {
        struct json *reply = bridge_ask_once(bridge_request("hello", NULL));
        code = reply != NULL ? OK : SERVICE_NOT_AVAILABLE;
        json_free(reply);
    }
    if (code == OK && text != NULL && text[0] != '\0') {
        query = json_parse(text, &mistake);
        if (query == NULL)
            complain(&verdict, HCS_INVALID_JSON, "Invalid JSON document '$': %s", mistake);
        else
            schema_check(query, shape, "$", &verdict);
        code = verdict.message != NULL ? verdict.code : OK;
    }
    document = code == OK               ? make(query)
               : fault.document != NULL ? duplicate(fault.document)
                                        : result_error(code, verdict.message);
    state_unlock();
    if (result != NULL)
        *result = widen(document);
    json_free(query);
    free(document);
    free(mistake);
    free(text);
    free(verdict.message);
    free(fault.document);
    return code;
}

HRESULT WINAPI HcsGetServiceProperties(PCWSTR query, PWSTR *result)
{
    return answer("HcsGetServiceProperties", query, &service_query, service_document, result);
}

static HRESULT make_state_file(PCWSTR wide)
{
    char *path = narrow(wide);
    HRESULT code = path != NULL && path_is_absolute(path) ? file_create_empty(path) : INVALID_PARAMETER;
    free(path);
    return code;
}

HRESULT WINAPI HcsCreateEmptyGuestStateFile(PCWSTR path)
{
    return make_state_file(path);
}

HRESULT WINAPI HcsCreateEmptyRuntimeStateFile(PCWSTR path)
{
    return make_state_file(path);
}
