#include "access.h"

#include <stdlib.h>
#include <string.h>

#include "bridge.h"
#include "codes.h"
#include "fault.h"
#include "platform.h"

#define EVERY_MACHINE "*"
#define MOST_ENTRIES 64 /* of one file: an access list that is full refuses with "incorrect parameter" */

struct grant {
    char *id, *path;
    struct grant *next;
};

static struct grant *grants;

static struct grant **find(const char *id, const char *path)
{
    struct grant **link = &grants;
    while (*link != NULL && (strcmp((*link)->id, id) != 0 || !path_equal((*link)->path, path)))
        link = &(*link)->next;
    return link;
}

static HRESULT ask(const char *operation, const char *id, const char *path)
{
    struct json *request = bridge_request(operation, id);
    json_set(request, "path", json_string(path));
    struct json *reply = bridge_ask_once(request);
    HRESULT code = reply != NULL ? (HRESULT)json_number(reply, "hresult", 0) : SERVICE_NOT_AVAILABLE;
    json_free(reply);
    return code;
}

bool access_granted(const char *id, const char *path)
{
    if (bridge_wanted())
        return ask("granted", id, path) == OK;
    return *find(id, path) != NULL || *find(EVERY_MACHINE, path) != NULL;
}

static HRESULT grant(const char *id, const char *path)
{
    if (bridge_wanted())
        return ask("grant", id, path);
    int entries = 0;
    for (const struct grant *entry = grants; entry != NULL; entry = entry->next)
        entries += path_equal(entry->path, path);
    if (entries >= MOST_ENTRIES)
        return INVALID_PARAMETER;
    struct grant *entry = allocate(sizeof *entry);
    *entry = (struct grant){duplicate(id), duplicate(path), grants};
    grants = entry;
    return OK;
}

static HRESULT revoke(const char *id, const char *path)
{
    if (bridge_wanted())
        return ask("revoke", id, path);
    struct grant **link;
    while (*(link = find(id, path)) != NULL) {
        struct grant *entry = *link;
        *link = entry->next;
        free(entry->id);
        free(entry->path);
        free(entry);
    }
    return OK;
}

static HRESULT change(const char *name, HRESULT (*change)(const char *, const char *), char *id, PCWSTR wide_path)
{
    struct fault fault;
    char *path = narrow(wide_path);
    struct file *file = NULL;
    HRESULT code = INVALID_PARAMETER;
    state_lock();
    if (fault_take(name, &fault) && fault.code != OK)
        code = fault.code;
    else if (path != NULL && path_is_absolute(path) && id != NULL && id[0] != '\0') {
        code = file_is_directory(path) ? OK : file_open(path, &file);
        if (code == OK)
            code = change(id, path);
    }
    state_unlock();
    if (file != NULL)
        file_close(file);
    free(id);
    free(path);
    return code;
}

HRESULT WINAPI HcsGrantVmAccess(PCWSTR id, PCWSTR path)
{
    return change("HcsGrantVmAccess", grant, narrow(id), path);
}

HRESULT WINAPI HcsRevokeVmAccess(PCWSTR id, PCWSTR path)
{
    return change("HcsRevokeVmAccess", revoke, narrow(id), path);
}

HRESULT WINAPI HcsGrantVmGroupAccess(PCWSTR path)
{
    return change("HcsGrantVmGroupAccess", grant, duplicate(EVERY_MACHINE), path);
}

HRESULT WINAPI HcsRevokeVmGroupAccess(PCWSTR path)
{
    return change("HcsRevokeVmGroupAccess", revoke, duplicate(EVERY_MACHINE), path);
}
