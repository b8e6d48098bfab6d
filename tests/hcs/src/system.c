#include "system.h"

#include <stdlib.h>
#include <string.h>

#include "bridge.h"
#include "codes.h"
#include "notice.h"
#include "platform.h"
#include "schema.h"

#define CRASHED CODE(0xc0370106u)

static struct system *systems;
static struct handle *handles; /* all that were ever made */

static const char *const state_names[] = {"Created", "Running", "Paused", "Stopped", "SavedAsTemplate"};

struct handle *handle_of(HCS_SYSTEM given)
{
    if (given == NULL)
        return NULL;
    for (struct handle *handle = handles; handle != NULL; handle = handle->next)
        if ((HCS_SYSTEM)handle == given) {
            if (handle->closed)
                fatal("compute system %p is used after HcsCloseComputeSystem", (void *)given);
            return handle;
        }
    fatal("%p is no compute system", (void *)given);
}

struct handle *handle_open(struct system *system)
{
    struct handle *handle = allocate(sizeof *handle);
    handle->system = system;
    handle->next = handles;
    handles = handle;
    system->handles++;
    return handle;
}

void handle_close(struct handle *handle)
{
    struct system *system = handle->system;
    handle->closed = true;
    notice_drain(handle);
    if (--system->handles > 0)
        return;
    if (system->bridge != NULL) {
        struct bridge *bridge = system->bridge;
        system->bridge = NULL;
        system_forget(system);
        json_free(bridge_ask(bridge, bridge_request("close", system->id))); /* who ends the machine, if it is to end */
        bridge_close(bridge);
    } else if (system->dies_with_handles || system->state == STATE_STOPPED) {
        system->state = STATE_STOPPED;
        system_forget(system);
    }
}

struct system *system_find(const char *id)
{
    struct system *system = systems;
    while (system != NULL && strcmp(system->id, id) != 0)
        system = system->next;
    return system;
}

struct system *system_make(const char *id, struct json *document)
{
    struct system *system = allocate(sizeof *system);
    system->id = duplicate(id);
    system->owner = duplicate(json_text(document, "Owner", ""));
    system->document = document;
    system->dies_with_handles = json_truth(document, "ShouldTerminateOnLastHandleClosed", false);
    if (guid_valid(id)) {
        strcpy(system->runtime, id);
        lower(system->runtime);
    } else
        guid_derive(id, system->runtime);
    return system;
}

void system_list(struct system *system)
{
    system->listed = true;
    system->next = systems;
    systems = system;
}

void system_forget(struct system *system)
{
    struct system **link = &systems;
    while (*link != NULL && *link != system)
        link = &(*link)->next;
    if (*link != NULL)
        *link = system->next;
    system->listed = false;
}

const char *system_state(const struct system *system)
{
    return state_names[system->state];
}

bool system_state_from(const char *name, enum state *state)
{
    for (size_t at = 0; at < sizeof state_names / sizeof *state_names; at++)
        if (strcmp(state_names[at], name) == 0) {
            *state = (enum state)at;
            return true;
        }
    return false;
}

void system_tell(struct system *system, uint32_t event, const char *data)
{
    for (struct handle *handle = handles; handle != NULL; handle = handle->next)
        if (handle->system == system && !handle->closed && handle->callback != NULL)
            notice_event(handle, event, data, NULL);
}

void system_exited(struct system *system, HRESULT status, const char *type, struct json *attribution)
{
    if (system->state == STATE_STOPPED) {
        json_free(attribution);
        return;
    }
    struct json *exit = json_object();
    json_set(exit, "Status", json_integer(status));
    if (schema_minor() >= 2)
        json_set(exit, "ExitType", json_string(type));
    if (attribution != NULL && schema_minor() >= 4) {
        struct json *list = json_array();
        json_add(list, attribution);
        json_set(exit, "Attribution", list);
    } else
        json_free(attribution);
    system->exit = json_write(exit);
    json_free(exit);
    system->state = STATE_STOPPED;
    system_tell(system, HcsEventSystemExited, system->exit);
    if (system->handles == 0 && system->listed)
        system_forget(system);
    state_wake();
}

void system_crashed(struct system *system, const char *log)
{
    struct json *report = json_object(), *parameters = json_array(), *crash = json_object(),
                *attribution = json_object();
    for (int at = 0; at < 5; at++)
        json_add(parameters, json_integer(at));
    json_set(report, "SystemId", json_string(system->id));
    json_set(report, "ActivityId", json_string(system->runtime));
    json_set(report, "CrashParameters", json_copy(parameters));
    json_set(report, "CrashLog", json_string(log));
    json_set(report, "Status", json_integer(CRASHED));
    char *text = json_write(report);
    system_tell(system, HcsEventSystemCrashInitiated, text);
    system_tell(system, HcsEventSystemCrashReport, text);
    free(text);
    json_free(report);
    json_set(crash, "CrashParameters", parameters);
    json_set(attribution, "GuestCrash", crash);
    system_exited(system, CRASHED, "UnexpectedExit", attribution);
}

static void add_property(struct json *properties, const char *key, const char *value)
{
    if (value[0] != '\0')
        json_set(properties, key, json_string(value));
}

struct json *system_properties(const struct system *system)
{
    struct json *properties = json_object();
    json_set(properties, "Id", json_string(system->id));
    json_set(properties, "SystemType", json_string("VirtualMachine"));
    add_property(properties, "Owner", system->owner);
    json_set(properties, "RuntimeId", json_string(system->runtime));
    json_set(properties, "State", json_string(system_state(system)));
    json_set(properties, "RuntimeOsType", json_string("Unknown"));
    return properties;
}

struct json *systems_properties(void)
{
    struct json *list = json_array();
    if (!bridge_wanted()) {
        for (const struct system *system = systems; system != NULL; system = system->next)
            json_add(list, system_properties(system));
        return list;
    }
    struct json *reply = bridge_ask_once(bridge_request("enumerate", NULL)), *found = json_get(reply, "systems");
    json_free(list);
    list = found != NULL ? json_copy(found) : NULL;
    json_free(reply);
    return list;
}

void systems_lose(void)
{
    while (systems != NULL) {
        struct system *system = systems;
        system->lost = true;
        system_tell(system, HcsEventServiceDisconnect, NULL);
        system_forget(system);
    }
    state_wake();
}
