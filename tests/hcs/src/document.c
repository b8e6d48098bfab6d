#include "document.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "access.h"
#include "codes.h"
#include "disk.h"
#include "platform.h"
#include "schema.h"

#define MOST_LUNS 64
#define MOST_PROCESSORS 64
#define LEAST_MEMORY 2
#define MOST_MEMORY (12u << 20) /* MB: the 12 TB of a Hyper-V machine */
#define VM "$.VirtualMachine"
#define ALLOWED_SHARE_FLAGS 0x1fdu
#define USE_SHARE_ROOT_IDENTITY 0x10

bool document_check_lun(const char *lun, const char *path, struct verdict *verdict)
{
    char *end;
    unsigned long number = strtoul(lun, &end, 10);
    bool plain = lun[0] >= '0' && lun[0] <= '9' && *end == '\0' && (lun[0] != '0' || lun[1] == '\0');
    return (plain && number < MOST_LUNS)
           || complain(verdict, INVALID_PARAMETER, "%s: '%s' is no LUN from 0 to %d", path, lun, MOST_LUNS - 1);
}

bool document_check_memory_size(const struct json *size, const char *path, struct verdict *verdict)
{
    if (size == NULL || size->kind != JSON_NUMBER || !size->integer)
        return complain(verdict, HCS_INVALID_JSON, "Invalid JSON document '%s': a whole number was expected", path);
    if (size->number < LEAST_MEMORY || size->number > MOST_MEMORY)
        return complain(verdict, INVALID_PARAMETER, "%s: no machine has %" PRId64 " MB", path, size->number);
    return size->number % 2 == 0
           || complain(verdict, INVALID_PARAMETER, "%s: %" PRId64 " MB is not a multiple of 2 MB", path, size->number);
}

static bool check_topology(const struct json *vm, struct verdict *verdict)
{
    const struct json *memory = json_at(vm, "ComputeTopology/Memory");
    const struct json *processor = json_at(vm, "ComputeTopology/Processor");
    int64_t count = json_number(processor, "Count", 0);
    if (!document_check_memory_size(json_get(memory, "SizeInMB"), VM ".ComputeTopology.Memory.SizeInMB", verdict))
        return false;
    if (json_truth(memory, "EnableDeferredCommit", false) && !json_truth(memory, "AllowOvercommit", false))
        return complain(verdict, INVALID_PARAMETER,
                        VM ".ComputeTopology.Memory.EnableDeferredCommit: only with AllowOvercommit");
    if (json_truth(memory, "PinBackingPages", false) && json_truth(memory, "AllowOvercommit", false))
        return complain(verdict, INVALID_PARAMETER,
                        VM ".ComputeTopology.Memory.PinBackingPages: not with AllowOvercommit");
    if (count < 1 || count > MOST_PROCESSORS)
        return complain(verdict, INVALID_PARAMETER, VM ".ComputeTopology.Processor.Count: 1 to %d", MOST_PROCESSORS);
    if (json_number(processor, "Limit", 0) > 100000 || json_number(processor, "Weight", 0) > 10000)
        return complain(verdict, INVALID_PARAMETER, VM ".ComputeTopology.Processor: Limit to 100000, Weight to 10000");
    return true;
}

static bool check_chipset(const struct json *vm, struct verdict *verdict)
{
    const struct json *chipset = json_get(vm, "Chipset");
    bool direct = json_get(chipset, "LinuxKernelDirect") != NULL, uefi = json_get(chipset, "Uefi") != NULL;
    if (direct == uefi)
        return complain(verdict, INVALID_PARAMETER, VM ".Chipset: exactly one of LinuxKernelDirect and Uefi");
    const struct json *boot = json_at(chipset, "Uefi/BootThis");
    if (strcmp(json_text(boot, "DeviceType", ""), "VmbFs") == 0 && json_get(boot, "VmbFsRootPath") == NULL)
        return complain(verdict, INVALID_PARAMETER, VM ".Chipset.Uefi.BootThis: VmbFs needs VmbFsRootPath");
    return true;
}

static bool check_devices(const struct json *vm, struct verdict *verdict)
{
    const struct json *controllers = json_at(vm, "Devices/Scsi"), *ports = json_at(vm, "Devices/ComPorts");
    int count = 0;
    for (const struct json *controller = controllers != NULL ? controllers->first : NULL; controller != NULL;
         controller = controller->next) {
        const struct json *attachments = json_get(controller, "Attachments");
        if (++count > 4)
            return complain(verdict, INVALID_PARAMETER, VM ".Devices.Scsi: at most 4 controllers");
        for (const struct json *disk = attachments != NULL ? attachments->first : NULL; disk != NULL; disk = disk->next)
            if (!document_check_lun(disk->key, VM ".Devices.Scsi", verdict))
                return false;
    }
    for (const struct json *port = ports != NULL ? ports->first : NULL; port != NULL; port = port->next)
        if (strcmp(port->key, "0") != 0 && strcmp(port->key, "1") != 0)
            return complain(verdict, INVALID_PARAMETER, VM ".Devices.ComPorts: '%s' is neither 0 nor 1", port->key);
    const struct json *shares = json_at(vm, "Devices/Plan9/Shares");
    for (const struct json *share = shares != NULL ? shares->first : NULL; share != NULL; share = share->next)
        for (const struct json *other = share->next; other != NULL; other = other->next)
            if (strcmp(json_text(share, "Name", ""), json_text(other, "Name", "")) == 0)
                return complain(verdict, ALREADY_EXISTS_FILE, VM ".Devices.Plan9.Shares: '%s' comes twice",
                                json_text(share, "Name", ""));
    return true;
}

bool document_check(const struct json *document, struct verdict *verdict)
{
    if (!schema_check(document, &compute_system, "$", verdict))
        return false;
    const struct json *version = json_get(document, "SchemaVersion"), *vm = json_get(document, "VirtualMachine");
    if (json_number(version, "Major", 0) != 2 || json_number(version, "Minor", 0) > schema_minor())
        return complain(verdict, HCS_INVALID_JSON,
                        "Invalid JSON document '$.SchemaVersion': this version of Windows knows 2.0 to 2.%u",
                        schema_minor());
    int kinds = (vm != NULL) + (json_get(document, "Container") != NULL) + (json_get(document, "HostedSystem") != NULL);
    if (kinds != 1)
        return complain(verdict, HCS_INVALID_JSON,
                        "Invalid JSON document '$': exactly one of VirtualMachine, Container and HostedSystem");
    if (vm == NULL)
        return complain(verdict, NOT_SUPPORTED, "the stand-in has no containers");
    return check_chipset(vm, verdict) && check_topology(vm, verdict) && check_devices(vm, verdict);
}

static bool check_access(const char *file, const char *id, const char *path, struct verdict *verdict)
{
    return access_granted(id, file)
           || complain(verdict, ACCESS_DENIED, "%s: the machine's worker may not open '%s' (HcsGrantVmAccess)", path,
                       file);
}

static bool check_readable(const char *file, const char *id, const char *path, struct verdict *verdict)
{
    struct file *opened;
    HRESULT code = file_open(file, &opened);
    if (code != OK)
        return complain(verdict, code, "%s: '%s' cannot be opened", path, file);
    bool content = file_size(opened) > 0;
    file_close(opened);
    if (!content)
        return complain(verdict, INVALID_PARAMETER, "%s: '%s' is empty", path, file);
    return path_is_readable_by_all(file) || check_access(file, id, path, verdict);
}

static bool check_attributes(const struct json *attachment, const char *path, struct verdict *verdict)
{
    static const struct {
        uint32_t attribute;
        const char *permission, *word;
    } refused[] = {
        {ATTRIBUTE_SPARSE, "AlwaysAllowSparseFiles", "sparse"},
        {ATTRIBUTE_COMPRESSED, "SupportCompressedVolumes", "compressed"},
        {ATTRIBUTE_ENCRYPTED, "SupportEncryptedFiles", "encrypted"},
    };
    const char *file = json_text(attachment, "Path", "");
    uint32_t attributes = file_attributes(file);
    for (size_t at = 0; at < sizeof refused / sizeof *refused; at++)
        if ((attributes & refused[at].attribute) != 0 && !json_truth(attachment, refused[at].permission, false))
            return complain(verdict, VHD_LIMITATION, "%s: '%s' is %s", path, file, refused[at].word);
    return true;
}

bool document_check_attachment(const struct json *attachment, const char *id, const char *path, struct verdict *verdict)
{
    const char *type = json_text(attachment, "Type", ""), *file = json_text(attachment, "Path", "");
    if (!check_readable(file, id, path, verdict) || !check_access(file, id, path, verdict)
        || !check_attributes(attachment, path, verdict))
        return false;
    if (strcmp(type, "VirtualDisk") != 0)
        return strcmp(type, "Iso") == 0
               || complain(verdict, NOT_SUPPORTED, "%s: the stand-in attaches no %s", path, type);
    struct verdict flaw = {0};
    if (!disk_check(file, json_truth(attachment, "ReadOnly", false), &flaw))
        complain(verdict, flaw.code, "%s: '%s': %s", path, file, flaw.message);
    free(flaw.message);
    return verdict->message == NULL;
}

/* Whose rights count: those of the token that came with the request, or those of the machine's own account. */
bool document_check_share(const struct json *share, const char *id, bool as_user, const char *path,
                          struct verdict *verdict)
{
    const char *directory = json_text(share, "Path", "");
    if (json_text(share, "Name", "")[0] == '\0' || json_text(share, "AccessName", "")[0] == '\0')
        return complain(verdict, INVALID_PARAMETER, "%s: a share needs a Name and an AccessName", path);
    if ((json_number(share, "Flags", 0) & ~(int64_t)ALLOWED_SHARE_FLAGS) != 0)
        return complain(verdict, INVALID_PARAMETER, "%s.Flags: a flag is unknown", path);
    if ((json_number(share, "Flags", 0) & USE_SHARE_ROOT_IDENTITY) != 0 && !as_user)
        return complain(verdict, INVALID_PARAMETER, "%s.Flags: UseShareRootIdentity, but no token came with it", path);
    if (!file_is_directory(directory))
        return complain(verdict, NOT_FOUND_PATH, "%s.Path: '%s' is no directory", path, directory);
    return as_user || directory_is_open_to_all(directory) || access_granted(id, directory)
           || complain(verdict, ACCESS_DENIED, "%s: the machine's account may not enter '%s'", path, directory);
}

bool document_check_files(const struct json *document, const char *id, struct verdict *verdict)
{
    const struct json *vm = json_get(document, "VirtualMachine");
    const struct json *direct = json_at(vm, "Chipset/LinuxKernelDirect");
    static const char *const members[] = {"KernelFilePath", "InitRdPath"};
    for (int at = 0; at < 2; at++) {
        const char *file = json_text(direct, members[at], NULL);
        char *path = format(VM ".Chipset.LinuxKernelDirect.%s", members[at]);
        bool good = file == NULL || check_readable(file, id, path, verdict);
        free(path);
        if (!good)
            return false;
    }
    const char *root = json_text(json_at(vm, "Chipset/Uefi/BootThis"), "VmbFsRootPath", NULL);
    if (root != NULL && !file_is_directory(root))
        return complain(verdict, NOT_FOUND_PATH, VM ".Chipset.Uefi.BootThis.VmbFsRootPath: '%s' is no directory", root);
    const struct json *controllers = json_at(vm, "Devices/Scsi");
    for (const struct json *controller = controllers != NULL ? controllers->first : NULL; controller != NULL;
         controller = controller->next) {
        const struct json *attachments = json_get(controller, "Attachments");
        for (const struct json *disk = attachments != NULL ? attachments->first : NULL; disk != NULL;
             disk = disk->next) {
            char *path = format(VM ".Devices.Scsi.%s.Attachments.%s", controller->key, disk->key);
            bool good = document_check_attachment(disk, id, path, verdict);
            free(path);
            if (!good)
                return false;
        }
    }
    const struct json *shares = json_at(vm, "Devices/Plan9/Shares");
    int number = 0;
    for (const struct json *share = shares != NULL ? shares->first : NULL; share != NULL; share = share->next) {
        char *path = format(VM ".Devices.Plan9.Shares[%d]", number++);
        bool good = document_check_share(share, id, false, path, verdict);
        free(path);
        if (!good)
            return false;
    }
    return true;
}
