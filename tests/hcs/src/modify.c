#include "modify.h"

#include <stdlib.h>
#include <string.h>

#include "bridge.h"
#include "codes.h"
#include "document.h"
#include "schema.h"

#define DEVICES "VirtualMachine/Devices"

/* One request in parts. */
struct change {
    struct request *request;
    struct json *document; /* of the system: what is there */
    const struct json *settings;
    const char *path; /* ResourcePath */
    bool add, remove, update;
    bool as_user; /* an access token came with it */
};

static bool refuse(struct change *change, HRESULT code, const char *what)
{
    return complain(&change->request->verdict, code, "%s: %s", change->path, what);
}

static bool has_settings(struct change *change, const struct shape *shape)
{
    if (change->settings == NULL)
        return refuse(change, HCS_INVALID_JSON, "Invalid JSON document '$.Settings': the member is required");
    return schema_check(change->settings, shape, "$.Settings", &change->request->verdict);
}

/* The bridge does it to the machine that runs. */
static bool carried_out(struct change *change)
{
    struct json *question = bridge_request("modify", change->request->system->id);
    json_set(question, "request", json_copy(change->request->options));
    return request_ask(change->request, question) == OK || change->request->verdict.message != NULL
               ? change->request->verdict.message == NULL
               : refuse(change, HCS_SERVICE_DISCONNECT, "the bridge is gone");
}

static struct json *member(struct json *parent, const char *key, struct json *(*make)(void))
{
    if (json_get(parent, key) == NULL)
        json_set(parent, key, make());
    return json_get(parent, key);
}

/* .../Scsi/<controller>/Attachments/<lun> */
static bool modify_scsi(struct change *change, const char *rest)
{
    size_t length = strcspn(rest, "/");
    const char *lun = rest + length;
    if (!starts_with(lun, "/Attachments/"))
        return refuse(change, INVALID_PARAMETER, "no such resource");
    lun += strlen("/Attachments/");
    struct text name = {0};
    text_add(&name, rest, length);
    struct json *controller = json_get(json_at(change->document, DEVICES "/Scsi"), name.data);
    free(name.data);
    if (controller == NULL)
        return refuse(change, ELEMENT_NOT_FOUND, "the system was created without this controller");
    if (!document_check_lun(lun, change->path, &change->request->verdict))
        return false;
    struct json *attachments = member(controller, "Attachments", json_object);
    bool there = json_get(attachments, lun) != NULL;
    if (change->remove) {
        if (!there)
            return refuse(change, ELEMENT_NOT_FOUND, "no disk is attached there");
        return carried_out(change) && json_remove(attachments, lun);
    }
    if (!has_settings(change, &attachment))
        return false;
    if (change->add == there)
        return there ? refuse(change, ALREADY_EXISTS_FILE, "a disk is attached there")
                     : refuse(change, ELEMENT_NOT_FOUND, "no disk is attached there");
    if (!document_check_attachment(change->settings, change->request->system->id, "$.Settings",
                                   &change->request->verdict)
        || !carried_out(change))
        return false;
    json_set(attachments, lun, json_copy(change->settings));
    return true;
}

static struct json **find_share(struct json *shares, const char *name, int64_t port)
{
    struct json **link = &shares->first;
    while (*link != NULL && (strcmp(json_text(*link, "Name", ""), name) != 0 || json_number(*link, "Port", 0) != port))
        link = &(*link)->next;
    return link;
}

static bool modify_share(struct change *change)
{
    struct json *plan9 = json_at(change->document, DEVICES "/Plan9");
    if (plan9 == NULL)
        return refuse(change, ELEMENT_NOT_FOUND, "the system was created without Plan9");
    if (change->update)
        return refuse(change, NOT_SUPPORTED, "a share is not updated");
    if (!has_settings(change, &plan9_share))
        return false;
    struct json *shares = member(plan9, "Shares", json_array);
    const struct json *settings = change->settings;
    struct json **link = find_share(shares, json_text(settings, "Name", ""), json_number(settings, "Port", 0));
    if (change->add == (*link != NULL))
        return change->add ? refuse(change, ALREADY_EXISTS_FILE, "the share exists")
                           : refuse(change, ELEMENT_NOT_FOUND, "there is no such share");
    if (change->add) {
        if (!document_check_share(settings, change->request->system->id, change->as_user, "$.Settings",
                                  &change->request->verdict) || !carried_out(change))
            return false;
        struct json *copy = json_copy(settings);
        free(copy->key);
        copy->key = NULL;
        json_add(shares, copy);
        return true;
    }
    if (!carried_out(change))
        return false;
    struct json *share = *link;
    *link = share->next;
    share->next = NULL;
    json_free(share);
    return true;
}

static bool modify_memory(struct change *change)
{
    if (change->add || change->remove)
        return refuse(change, NOT_SUPPORTED, "memory is updated, neither added nor removed");
    if (!document_check_memory_size(change->settings, "$.Settings", &change->request->verdict))
        return false;
    /* the guest has to give up or take the memory, and does not answer before its balloon driver runs */
    if (change->request->system->state != STATE_RUNNING)
        return refuse(change, HCS_INVALID_STATE, "the guest's memory driver does not answer");
    if (!carried_out(change))
        return false;
    json_set(json_at(change->document, "VirtualMachine/ComputeTopology/Memory"), "SizeInMB",
             json_copy(change->settings));
    return true;
}

static bool modify_service(struct change *change, const char *guid)
{
    struct json *config = json_at(change->document, DEVICES "/HvSocket/HvSocketConfig");
    if (!guid_valid(guid))
        return refuse(change, INVALID_PARAMETER, "a service is named by a GUID");
    if (config == NULL)
        return refuse(change, ELEMENT_NOT_FOUND, "the system was created without HvSocketConfig");
    struct json *table = member(config, "ServiceTable", json_object);
    if (change->remove)
        return json_remove(table, guid) || refuse(change, ELEMENT_NOT_FOUND, "the table has no such service");
    if (!has_settings(change, &hvsocket_service))
        return false;
    json_set(table, guid, json_copy(change->settings));
    return true;
}

static bool dispatch(struct change *change)
{
    const char *path = change->path;
    static const char scsi[] = DEVICES "/Scsi/", adapters[] = DEVICES "/NetworkAdapters/",
                      ports[] = DEVICES "/ComPorts/", services[] = DEVICES "/HvSocket/HvSocketConfig/ServiceTable/";
    if (starts_with(path, scsi))
        return modify_scsi(change, path + strlen(scsi));
    if (strcmp(path, DEVICES "/Plan9/Shares") == 0)
        return modify_share(change);
    if (strcmp(path, "VirtualMachine/ComputeTopology/Memory/SizeInMB") == 0)
        return modify_memory(change);
    if (starts_with(path, services))
        return modify_service(change, path + strlen(services));
    if (strcmp(path, "VirtualMachine/ComputeTopology/Processor/Limits") == 0)
        return has_settings(change, &processor_limits);
    if (starts_with(path, adapters))
        return has_settings(change, &network_adapter)
               && refuse(change, ELEMENT_NOT_FOUND, "the stand-in has no network endpoints");
    if (starts_with(path, ports))
        return has_settings(change, &com_port) && carried_out(change);
    return refuse(change, INVALID_PARAMETER, "no such resource");
}

static HRESULT carry(struct request *request, bool as_user)
{
    struct system *system = request->system;
    if (system->state == STATE_STOPPED)
        return HCS_SYSTEM_ALREADY_STOPPED;
    if (request->options == NULL)
        return INVALID_PARAMETER;
    if (!schema_check(request->options, &modify_request, "$", &request->verdict))
        return request->verdict.code;
    const char *type = json_text(request->options, "RequestType", "Update");
    struct change change = {
        .request = request,
        .document = system->document,
        .settings = json_get(request->options, "Settings"),
        .path = json_text(request->options, "ResourcePath", ""),
        .add = strcmp(type, "Add") == 0,
        .remove = strcmp(type, "Remove") == 0,
        .update = strcmp(type, "Update") == 0,
        .as_user = as_user,
    };
    if (json_get(request->options, "GuestRequest") != NULL
        && json_at(system->document, "VirtualMachine/GuestConnection") == NULL)
        return complain(&request->verdict, HCS_INVALID_STATE,
                        "$.GuestRequest: there is no guest connection to send it to")
                   ? OK
                   : HCS_INVALID_STATE;
    return dispatch(&change) ? OK : request->verdict.code;
}

HRESULT modify(struct request *request)
{
    return carry(request, false);
}

HRESULT modify_as_user(struct request *request)
{
    return carry(request, true);
}
