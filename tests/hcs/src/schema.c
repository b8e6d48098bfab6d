#include "schema.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "codes.h"
#include "platform.h"
#include "sddl.h"

#define USUAL_BUILD 26100

enum kind {
    A_BOOLEAN,
    A_UINT16,
    A_UINT32,
    A_UINT64,
    A_STRING,
    A_WORD,     /* a string out of `words` */
    A_GUID,     /* a string */
    AN_SDDL,    /* a string */
    A_MAC,      /* a string: 00-15-5D-12-34-56 */
    A_PATH,     /* a string: absolute */
    A_PIPE,     /* a string: \\.\pipe\name */
    AN_OBJECT,  /* of `shape` */
    A_MAP,      /* of names to objects of `shape` */
    A_GUID_MAP, /* the names are GUIDs */
    A_LIST,     /* of objects of `shape` */
    A_STRINGS,
    A_WORDS, /* a list of strings out of `words` */
    ANYTHING,
};

#define REQUIRED 1u

struct field {
    const char *name;
    enum kind kind;
    const struct shape *shape;
    const char *const *words;
    unsigned since; /* minor version of schema 2 */
    unsigned build; /* or this build of Windows, if it has it earlier or if no schema names it */
    unsigned flags;
};

struct shape {
    const struct field *fields;
};

#define SHAPE(name, ...) \
    static const struct field name##_fields[] = {__VA_ARGS__, {0}}; \
    const struct shape name = {name##_fields}
#define LOCAL_SHAPE(name, ...) \
    static const struct field name##_fields[] = {__VA_ARGS__, {0}}; \
    static const struct shape name = {name##_fields}
#define WORDS_OF(name, ...) static const char *const name[] = {__VA_ARGS__, NULL}

static const struct field no_fields[] = {{0}};
static const struct shape empty = {no_fields};

/* Chipset */

WORDS_OF(boot_devices, "ScsiDrive", "VmbFs", "Network", "File");
WORDS_OF(secure_boot, "Skip", "Apply");
WORDS_OF(uefi_consoles, "Default", "Disabled", "ComPort1", "ComPort2");

LOCAL_SHAPE(version, {"Major", A_UINT32, .flags = REQUIRED}, {"Minor", A_UINT32, .flags = REQUIRED});
LOCAL_SHAPE(linux_kernel_direct, {"KernelFilePath", A_PATH, .flags = REQUIRED}, {"InitRdPath", A_PATH},
            {"KernelCmdLine", A_STRING});
LOCAL_SHAPE(boot_entry, {"DeviceType", A_WORD, .words = boot_devices, .flags = REQUIRED}, {"DevicePath", A_STRING},
            {"DiskNumber", A_UINT16}, {"OptionalData", A_STRING}, {"VmbFsRootPath", A_PATH});
LOCAL_SHAPE(uefi, {"EnableDebugger", A_BOOLEAN}, {"SecureBootTemplateId", A_GUID},
            {"ApplySecureBootTemplate", A_WORD, .words = secure_boot, .since = 3}, {"BootThis", AN_OBJECT, &boot_entry},
            {"Console", A_WORD, .words = uefi_consoles}, {"StopOnBootFailure", A_BOOLEAN, .since = 2});
LOCAL_SHAPE(chipset, {"Uefi", AN_OBJECT, &uefi}, {"LinuxKernelDirect", AN_OBJECT, &linux_kernel_direct, .since = 2},
            {"UseUtc", A_BOOLEAN, .since = 1}, {"IsNumLockDisabled", A_BOOLEAN}, {"BaseBoardSerialNumber", A_STRING},
            {"ChassisSerialNumber", A_STRING}, {"ChassisAssetTag", A_STRING},
            {"EnableHibernation", A_BOOLEAN, .since = 5});

/* ComputeTopology */

WORDS_OF(page_sizes, "Small", "Large");
WORDS_OF(backings, "Virtual", "Physical");

LOCAL_SHAPE(memory, {"SizeInMB", A_UINT64, .flags = REQUIRED}, {"AllowOvercommit", A_BOOLEAN},
            {"EnableDeferredCommit", A_BOOLEAN}, {"EnableHotHint", A_BOOLEAN}, {"EnableColdHint", A_BOOLEAN},
            {"EnableColdDiscardHint", A_BOOLEAN, .since = 3}, {"EnableEpf", A_BOOLEAN},
            {"BackingPageSize", A_WORD, .words = page_sizes, .since = 2},
            {"FaultClusterSizeShift", A_UINT32, .since = 4, .build = 19041},
            {"DirectMapFaultClusterSizeShift", A_UINT32, .since = 4, .build = 19041},
            {"PinBackingPages", A_BOOLEAN, .since = 2}, {"ForbidSmallBackingPages", A_BOOLEAN, .since = 2},
            {"EnablePrivateCompressionStore", A_BOOLEAN, .since = 2}, {"LowMmioGapInMB", A_UINT64, .since = 3},
            {"HighMmioBaseInMB", A_UINT64, .since = 3}, {"HighMmioGapInMB", A_UINT64, .since = 3},
            {"HostingProcessNameSuffix", A_STRING, .since = 6}, {"Backing", A_WORD, .words = backings});
LOCAL_SHAPE(cpu_group, {"Id", A_STRING, .flags = REQUIRED});
LOCAL_SHAPE(processor, {"Count", A_UINT32, .flags = REQUIRED}, {"Limit", A_UINT64}, {"Weight", A_UINT64},
            {"Reservation", A_UINT64, .since = 4}, {"MaximumFrequencyMHz", A_UINT32, .since = 4},
            {"ExposeVirtualizationExtensions", A_BOOLEAN}, {"EnablePerfmonPmu", A_BOOLEAN, .since = 2},
            {"EnablePerfmonPebs", A_BOOLEAN, .since = 2}, {"EnablePerfmonLbr", A_BOOLEAN, .since = 2},
            {"EnablePerfmonIpt", A_BOOLEAN, .since = 2}, {"EnablePageShattering", A_BOOLEAN, .since = 5},
            {"DisableSpeculationControls", A_BOOLEAN, .since = 5}, {"CpuGroup", AN_OBJECT, &cpu_group, .since = 5});
SHAPE(processor_limits, {"Limit", A_UINT64}, {"Weight", A_UINT64}, {"Reservation", A_UINT64},
      {"MaximumFrequencyMHz", A_UINT32});
LOCAL_SHAPE(topology, {"Memory", AN_OBJECT, &memory, .flags = REQUIRED},
            {"Processor", AN_OBJECT, &processor, .flags = REQUIRED});

/* Devices */

WORDS_OF(attachment_types, "VirtualDisk", "Iso", "PassThru");
WORDS_OF(caching, "Uncached", "Cached", "ReadOnlyCached");
WORDS_OF(image_formats, "Vhd1", "Vhdx");

SHAPE(attachment, {"Type", A_WORD, .words = attachment_types, .flags = REQUIRED}, {"Path", A_PATH, .flags = REQUIRED},
      {"ReadOnly", A_BOOLEAN}, {"CachingMode", A_WORD, .words = caching, .since = 1},
      {"SupportCompressedVolumes", A_BOOLEAN, .since = 3},
      {"AlwaysAllowSparseFiles", A_BOOLEAN, .since = 6, .build = 19041},
      {"SupportEncryptedFiles", A_BOOLEAN, .since = 6, .build = 19041}, {"IgnoreFlushes", A_BOOLEAN},
      {"NoWriteHardening", A_BOOLEAN}, {"DisableExpansionOptimization", A_BOOLEAN},
      {"IgnoreRelativeLocator", A_BOOLEAN});
LOCAL_SHAPE(scsi, {"Attachments", A_MAP, &attachment}, {"DisableInterruptBatching", A_BOOLEAN, .since = 4});
SHAPE(com_port, {"NamedPipe", A_PIPE, .flags = REQUIRED}, {"OptimizeForDebugger", A_BOOLEAN});
LOCAL_SHAPE(virtio_port, {"NamedPipe", A_PIPE}, {"Name", A_STRING}, {"ConsoleSupport", A_BOOLEAN, .since = 6});
LOCAL_SHAPE(virtio_serial, {"Ports", A_MAP, &virtio_port});
LOCAL_SHAPE(pmem_device, {"HostPath", A_PATH, .flags = REQUIRED}, {"ReadOnly", A_BOOLEAN},
            {"ImageFormat", A_WORD, .words = image_formats});
LOCAL_SHAPE(virtual_pmem, {"Devices", A_MAP, &pmem_device}, {"MaximumCount", A_UINT32}, {"MaximumSizeBytes", A_UINT64},
            {"Backing", A_WORD, .words = backings});
SHAPE(hvsocket_service, {"BindSecurityDescriptor", AN_SDDL}, {"ConnectSecurityDescriptor", AN_SDDL},
      {"AllowWildcardBinds", A_BOOLEAN}, {"Disabled", A_BOOLEAN});
LOCAL_SHAPE(hvsocket_config, {"DefaultBindSecurityDescriptor", AN_SDDL}, {"DefaultConnectSecurityDescriptor", AN_SDDL},
            {"ServiceTable", A_GUID_MAP, &hvsocket_service});
LOCAL_SHAPE(hvsocket, {"HvSocketConfig", AN_OBJECT, &hvsocket_config});
SHAPE(plan9_share, {"Name", A_STRING, .flags = REQUIRED}, {"AccessName", A_STRING, .flags = REQUIRED}, {"Path", A_PATH},
      {"Port", A_UINT32, .flags = REQUIRED}, {"Flags", A_UINT32}, {"AllowedFiles", A_STRINGS, .build = 18362});
LOCAL_SHAPE(plan9, {"Shares", A_LIST, &plan9_share});
SHAPE(network_adapter, {"EndpointId", A_GUID, .flags = REQUIRED}, {"MacAddress", A_MAC},
      {"InstanceId", A_GUID, .since = 4}, {"DisableInterruptBatching", A_BOOLEAN, .since = 4});
LOCAL_SHAPE(iov, {"EmulatorId", A_GUID, .flags = REQUIRED}, {"HostingModel", A_STRING}, {"Configuration", A_STRINGS});
LOCAL_SHAPE(devices, {"Scsi", A_MAP, &scsi}, {"ComPorts", A_MAP, &com_port},
            {"VirtioSerial", AN_OBJECT, &virtio_serial, .since = 2}, {"VirtualPMem", AN_OBJECT, &virtual_pmem},
            {"HvSocket", AN_OBJECT, &hvsocket}, {"Plan9", AN_OBJECT, &plan9},
            {"NetworkAdapters", A_MAP, &network_adapter}, {"FlexibleIov", A_GUID_MAP, &iov},
            {"Battery", AN_OBJECT, &empty}, {"Keyboard", AN_OBJECT, &empty}, {"Mouse", AN_OBJECT, &empty},
            {"GuestCrashReporting", ANYTHING}, {"VideoMonitor", ANYTHING}, {"EnhancedModeVideo", ANYTHING},
            {"VirtualSmb", ANYTHING}, {"VirtualPci", ANYTHING, .since = 3}, {"SharedMemory", ANYTHING});

/* The system */

LOCAL_SHAPE(guest_state, {"GuestStateFilePath", A_PATH}, {"RuntimeStateFilePath", A_PATH},
            {"ForceTransientState", A_BOOLEAN});
LOCAL_SHAPE(restore_state, {"SaveStateFilePath", A_PATH}, {"TemplateSystemId", A_STRING});
LOCAL_SHAPE(storage_qos, {"IopsMaximum", A_UINT64}, {"BandwidthMaximum", A_UINT64});
LOCAL_SHAPE(guest_connection, {"UseVsock", A_BOOLEAN}, {"UseConnectedSuspend", A_BOOLEAN},
            {"UseHostTimeZone", A_BOOLEAN, .since = 4});
LOCAL_SHAPE(services, {"Heartbeat", AN_OBJECT, &empty}, {"Shutdown", AN_OBJECT, &empty},
            {"Timesync", AN_OBJECT, &empty}, {"KvpExchange", AN_OBJECT, &empty});
LOCAL_SHAPE(debug_options, {"BugcheckSavedStateFileName", A_PATH}, {"BugcheckNoCrashdumpSavedStateFileName", A_PATH},
            {"TripleFaultSavedStateFileName", A_PATH}, {"FirmwareDumpFileName", A_PATH},
            {"ShutdownOrResetSavedStateFileName", A_PATH});
LOCAL_SHAPE(virtual_machine, {"Version", AN_OBJECT, &version, .since = 5}, {"StopOnReset", A_BOOLEAN},
            {"Chipset", AN_OBJECT, &chipset, .flags = REQUIRED},
            {"ComputeTopology", AN_OBJECT, &topology, .flags = REQUIRED}, {"Devices", AN_OBJECT, &devices},
            {"Services", AN_OBJECT, &services, .since = 5}, {"GuestState", AN_OBJECT, &guest_state, .since = 1},
            {"RestoreState", AN_OBJECT, &restore_state}, {"StorageQoS", AN_OBJECT, &storage_qos, .since = 1},
            {"GuestConnection", AN_OBJECT, &guest_connection, .since = 1}, {"RegistryChanges", ANYTHING},
            {"DebugOptions", AN_OBJECT, &debug_options, .since = 6});
SHAPE(compute_system, {"Owner", A_STRING}, {"SchemaVersion", AN_OBJECT, &version, .flags = REQUIRED},
      {"HostingSystemId", A_STRING}, {"HostedSystem", ANYTHING}, {"Container", ANYTHING},
      {"VirtualMachine", AN_OBJECT, &virtual_machine}, {"ShouldTerminateOnLastHandleClosed", A_BOOLEAN});

/* Requests, queries, options */

WORDS_OF(request_types, "Add", "Remove", "Update");
WORDS_OF(system_types, "Container", "VirtualMachine");
WORDS_OF(property_types, "Memory", "Statistics", "ProcessList", "TerminateOnLastHandleClosed", "SharedMemoryRegion",
         "GuestConnection");
WORDS_OF(service_types, "Basic", "Memory", "CpuGroup", "ProcessorTopology", "CacheAllocation", "CacheMonitoring",
         "ContainerCredentialGuard", "QoSCapabilities");
WORDS_OF(save_types, "ToFile", "AsTemplate");
WORDS_OF(mechanisms, "GuestConnection", "IntegrationService");
WORDS_OF(shutdown_types, "Shutdown", "Hibernate", "Reboot");
WORDS_OF(suspension_levels, "Suspend", "MemoryLow", "MemoryMedium", "MemoryHigh");
WORDS_OF(crash_types, "CrashGuest");

SHAPE(modify_request, {"ResourcePath", A_STRING, .flags = REQUIRED}, {"RequestType", A_WORD, .words = request_types},
      {"Settings", ANYTHING}, {"GuestRequest", ANYTHING});
SHAPE(system_query, {"Ids", A_STRINGS}, {"Names", A_STRINGS}, {"Types", A_WORDS, .words = system_types},
      {"Owners", A_STRINGS});
SHAPE(property_query, {"PropertyTypes", A_WORDS, .words = property_types}, {"Queries", ANYTHING, .since = 5});
SHAPE(service_query, {"PropertyTypes", A_WORDS, .words = service_types}, {"PropertyQueries", ANYTHING, .since = 5});
SHAPE(save_options, {"SaveType", A_WORD, .words = save_types, .flags = REQUIRED}, {"SaveStateFilePath", A_PATH});
SHAPE(shutdown_options, {"Mechanism", A_WORD, .words = mechanisms, .since = 5},
      {"Type", A_WORD, .words = shutdown_types, .since = 5}, {"Force", A_BOOLEAN, .since = 5},
      {"Reason", A_STRING, .since = 5});
SHAPE(pause_options, {"SuspensionLevel", A_WORD, .words = suspension_levels}, {"HostedNotification", ANYTHING});
SHAPE(crash_options, {"Type", A_WORD, .words = crash_types, .since = 3, .flags = REQUIRED});

unsigned schema_build(void)
{
    char *value = environment("PROPOLIS_HCS_BUILD");
    unsigned build = value != NULL ? (unsigned)strtoul(value, NULL, 10) : USUAL_BUILD;
    free(value);
    return build;
}

unsigned schema_minor(void)
{
    static const struct {
        unsigned build, minor;
    } map[] = {{22621, 7}, {22000, 6}, {20348, 5}, {19041, 3}, {18362, 2}, {0, 1}};
    unsigned build = schema_build();
    for (size_t at = 0;; at++)
        if (build >= map[at].build)
            return map[at].minor;
}

static bool known(const struct field *field)
{
    if (field->build != 0 && schema_build() >= field->build)
        return true;
    return (field->build == 0 || field->since != 0) && schema_minor() >= field->since;
}

static bool wrong(struct verdict *verdict, const char *path, const char *what)
{
    return complain(verdict, HCS_INVALID_JSON, "Invalid JSON document '%s': %s", path, what);
}

static bool check_number(const struct json *value, uint64_t most, const char *path, struct verdict *verdict)
{
    if (value->kind != JSON_NUMBER || !value->integer || value->number < 0)
        return wrong(verdict, path, "a whole number that is not negative was expected");
    return (uint64_t)value->number <= most || wrong(verdict, path, "the number is too large for its type");
}

static bool check_word(const struct json *value, const char *const *words, const char *path, struct verdict *verdict)
{
    for (; value->kind == JSON_STRING && *words != NULL; words++)
        if (strcmp(value->string, *words) == 0)
            return true;
    return wrong(verdict, path, "the value is not one of its enumeration");
}

static bool check_mac(const char *text)
{
    for (int at = 0; at < 17; at++)
        if (at % 3 == 2 ? text[at] != '-' : text[at] == '\0' || strchr("0123456789ABCDEFabcdef", text[at]) == NULL)
            return false;
    return text[17] == '\0';
}

static bool check_string(const struct json *value, const struct field *field, const char *path, struct verdict *verdict)
{
    struct verdict flaw = {0};
    if (value->kind != JSON_STRING)
        return wrong(verdict, path, "a string was expected");
    switch (field->kind) {
    case A_GUID:
        return guid_valid(value->string) || wrong(verdict, path, "a GUID was expected");
    case A_MAC:
        return check_mac(value->string) || wrong(verdict, path, "an address like 00-15-5D-12-34-56 was expected");
    case A_PATH:
        return path_is_absolute(value->string)
               || complain(verdict, INVALID_PARAMETER, "%s: '%s' is no absolute path", path, value->string);
    case A_PIPE:
        return path_is_pipe(value->string)
               || complain(verdict, INVALID_PARAMETER, "%s: '%s' is no named pipe", path, value->string);
    case AN_SDDL:
        if (!sddl_check(value->string, &flaw))
            complain(verdict, flaw.code, "%s: %s", path, flaw.message);
        free(flaw.message);
        return verdict->message == NULL;
    default:
        return true;
    }
}

/* Each element of a list or member of a map. */
static bool check_each(const struct json *value, const struct field *field, const char *path, struct verdict *verdict)
{
    bool list = value->kind == JSON_ARRAY;
    int number = 0;
    for (const struct json *child = value->first; child != NULL && verdict->message == NULL; child = child->next) {
        char *name = list ? format("%s[%d]", path, number++) : format("%s.%s", path, child->key);
        if (field->kind == A_STRINGS && child->kind != JSON_STRING)
            wrong(verdict, name, "a string was expected");
        if (field->kind == A_WORDS)
            check_word(child, field->words, name, verdict);
        if (field->kind == A_GUID_MAP && !guid_valid(child->key))
            wrong(verdict, name, "the name must be a GUID");
        if (field->shape != NULL)
            schema_check(child, field->shape, name, verdict);
        free(name);
    }
    return verdict->message == NULL;
}

static bool check_field(const struct json *value, const struct field *field, const char *path, struct verdict *verdict)
{
    switch (field->kind) {
    case A_BOOLEAN:
        return value->kind == JSON_BOOLEAN || wrong(verdict, path, "true or false was expected");
    case A_UINT16:
        return check_number(value, UINT16_MAX, path, verdict);
    case A_UINT32:
        return check_number(value, UINT32_MAX, path, verdict);
    case A_UINT64:
        return check_number(value, UINT64_MAX, path, verdict);
    case A_WORD:
        return check_word(value, field->words, path, verdict);
    case AN_OBJECT:
        return schema_check(value, field->shape, path, verdict);
    case A_MAP:
    case A_GUID_MAP:
        return value->kind == JSON_OBJECT ? check_each(value, field, path, verdict)
                                          : wrong(verdict, path, "an object was expected");
    case A_LIST:
    case A_STRINGS:
    case A_WORDS:
        return value->kind == JSON_ARRAY ? check_each(value, field, path, verdict)
                                         : wrong(verdict, path, "an array was expected");
    case ANYTHING:
        return true;
    default:
        return check_string(value, field, path, verdict);
    }
}

bool schema_check(const struct json *value, const struct shape *shape, const char *path, struct verdict *verdict)
{
    if (value->kind != JSON_OBJECT)
        return wrong(verdict, path, "an object was expected");
    for (const struct json *member = value->first; member != NULL; member = member->next) {
        const struct field *field = shape->fields;
        while (field->name != NULL && strcmp(field->name, member->key) != 0)
            field++;
        char *name = format("%s.%s", path, member->key);
        if (field->name == NULL)
            wrong(verdict, name, "the member is unknown");
        else if (!known(field))
            wrong(verdict, name, "this version of Windows does not know the member");
        else
            check_field(member, field, name, verdict);
        free(name);
        if (verdict->message != NULL)
            return false;
    }
    for (const struct field *field = shape->fields; field->name != NULL; field++)
        if ((field->flags & REQUIRED) != 0 && json_get(value, field->name) == NULL) {
            char *name = format("%s.%s", path, field->name);
            wrong(verdict, name, "the member is required");
            free(name);
            return false;
        }
    return true;
}
