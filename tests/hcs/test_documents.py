"""Each rule of the validator refuses what it should, and takes what it should."""

import json

import pytest

INVALID_JSON = 0x8037010D
INVALID_PARAMETER = 0x80070057


def put(path, value):
    """A change of the document at `path`, members separated by slashes."""

    def change(document):
        *parents, last = path.split("/")
        for name in parents:
            document = document.setdefault(name, {})
        if value is None:
            del document[last]
        else:
            document[last] = value

    change.__name__ = f"{path}={json.dumps(value)[:40]}"
    return change


VM = "VirtualMachine"
MEMORY = f"{VM}/ComputeTopology/Memory"
PROCESSOR = f"{VM}/ComputeTopology/Processor"
DEVICES = f"{VM}/Devices"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (put("Ower", "x"), "$.Ower"),
        (put("owner", "x"), "$.owner"),
        (put("Owner", 7), "$.Owner"),
        (put("SchemaVersion", None), "$.SchemaVersion"),
        (put("SchemaVersion/Minor", "3"), "$.SchemaVersion.Minor"),
        (put("SchemaVersion/Minor", 99), "$.SchemaVersion"),
        (put("SchemaVersion/Major", 1), "$.SchemaVersion"),
        (put("ShouldTerminateOnLastHandleClosed", "true"), "$.ShouldTerminateOnLastHandleClosed"),
        (put("Container", {}), "$"),
        (put(VM, None), "$"),
        (put(VM, []), "$.VirtualMachine"),
        (put(f"{VM}/Chipset", None), "$.VirtualMachine.Chipset"),
        (put(f"{VM}/Chipset/LinuxKernelDirect/Kernel", "x"), "$.VirtualMachine.Chipset.LinuxKernelDirect.Kernel"),
        (
            put(f"{VM}/Chipset/LinuxKernelDirect/KernelFilePath", None),
            "$.VirtualMachine.Chipset.LinuxKernelDirect.KernelFilePath",
        ),
        (put(f"{MEMORY}/SizeInMB", None), "$.VirtualMachine.ComputeTopology.Memory.SizeInMB"),
        (put(f"{MEMORY}/SizeInMB", 256.5), "$.VirtualMachine.ComputeTopology.Memory.SizeInMB"),
        (put(f"{MEMORY}/SizeInMB", -2), "$.VirtualMachine.ComputeTopology.Memory.SizeInMB"),
        (put(f"{MEMORY}/BackingPageSize", "Medium"), "$.VirtualMachine.ComputeTopology.Memory.BackingPageSize"),
        (put(f"{PROCESSOR}/Count", True), "$.VirtualMachine.ComputeTopology.Processor.Count"),
        (put(f"{PROCESSOR}/Count", 1 << 33), "$.VirtualMachine.ComputeTopology.Processor.Count"),
        (put(f"{DEVICES}/Scsi/x/Attachments", []), "$.VirtualMachine.Devices.Scsi.x.Attachments"),
        (
            put(f"{DEVICES}/Scsi/x/Attachments/0", {"Type": "Disk", "Path": "/x.vhdx"}),
            "$.VirtualMachine.Devices.Scsi.x.Attachments.0.Type",
        ),
        (put(f"{DEVICES}/ComPorts/0", {"Pipe": "x"}), "$.VirtualMachine.Devices.ComPorts.0.Pipe"),
        (put(f"{DEVICES}/Plan9/Shares", {}), "$.VirtualMachine.Devices.Plan9.Shares"),
        (put(f"{DEVICES}/Plan9/Shares", [{"Name": "a"}]), "$.VirtualMachine.Devices.Plan9.Shares[0].AccessName"),
        (put(f"{DEVICES}/VirtioFs", {}), "$.VirtualMachine.Devices.VirtioFs"),
        (
            put(f"{DEVICES}/HvSocket/HvSocketConfig/ServiceTable", {"1024": {}}),
            "$.VirtualMachine.Devices.HvSocket.HvSocketConfig.ServiceTable.1024",
        ),
        (
            put(f"{DEVICES}/NetworkAdapters/n", {"EndpointId": "x"}),
            "$.VirtualMachine.Devices.NetworkAdapters.n.EndpointId",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_invalid_json_names_the_path(refusal, change, path):
    result = refusal(change)
    assert result.code == INVALID_JSON
    assert result.document["Error"] == INVALID_JSON - (1 << 32)
    assert result.message.startswith(f"Invalid JSON document '{path}':")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (put(f"{MEMORY}/SizeInMB", 257), INVALID_PARAMETER),
        (put(f"{MEMORY}/SizeInMB", 0), INVALID_PARAMETER),
        (put(MEMORY, {"SizeInMB": 256, "EnableDeferredCommit": True}), INVALID_PARAMETER),
        (put(f"{MEMORY}/PinBackingPages", True), INVALID_PARAMETER),
        (put(f"{PROCESSOR}/Count", 0), INVALID_PARAMETER),
        (put(f"{PROCESSOR}/Count", 65), INVALID_PARAMETER),
        (put(f"{PROCESSOR}/Weight", 10001), INVALID_PARAMETER),
        (put(f"{VM}/Chipset/Uefi", {}), INVALID_PARAMETER),
        (put(f"{VM}/Chipset/LinuxKernelDirect", None), INVALID_PARAMETER),
        (put(f"{VM}/Chipset/LinuxKernelDirect/KernelFilePath", "vmlinux"), INVALID_PARAMETER),
        (put(f"{VM}/Chipset/LinuxKernelDirect/KernelFilePath", "/no/such/kernel"), 0x80070002),
        (put(f"{VM}/Chipset/LinuxKernelDirect/InitRdPath", "/etc/hostname"), 0x80070005),
        (put(f"{DEVICES}/Scsi/x/Attachments/64", {"Type": "VirtualDisk", "Path": "/x.vhdx"}), INVALID_PARAMETER),
        (put(f"{DEVICES}/Scsi/x/Attachments/01", {"Type": "VirtualDisk", "Path": "/x.vhdx"}), INVALID_PARAMETER),
        (put(f"{DEVICES}/Scsi/x/Attachments/0", {"Type": "VirtualDisk", "Path": "/x.vhdx"}), 0x80070002),
        (put(f"{DEVICES}/Scsi", {name: {} for name in "abcde"}), INVALID_PARAMETER),
        (put(f"{DEVICES}/ComPorts/2", {"NamedPipe": "/x"}), INVALID_PARAMETER),
        (put(f"{DEVICES}/ComPorts/0", {"NamedPipe": "x"}), INVALID_PARAMETER),
        (
            put(f"{DEVICES}/Plan9/Shares", [{"Name": "a", "AccessName": "a", "Path": "/no/such", "Port": 564}]),
            0x80070003,
        ),
        (
            put(f"{DEVICES}/Plan9/Shares", [{"Name": "a", "AccessName": "a", "Path": "/", "Port": 564}] * 2),
            0x800700B7,
        ),
        (
            put(f"{DEVICES}/Plan9/Shares", [{"Name": "a", "AccessName": "a", "Path": "/", "Port": 1, "Flags": 2}]),
            INVALID_PARAMETER,
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_values_out_of_range(refusal, change, code):
    result = refusal(change)
    assert result.code == code, result
    assert result.message


@pytest.mark.parametrize("text", ["", "{", "[1,]", '{"Owner":"a","Owner":"b"}', '{"Owner":"\t"}', "{} x", "[" * 100])
def test_what_is_no_json(core, vm_id, text):
    system, result = core.create(vm_id, text)
    assert result.code == INVALID_JSON
    assert "'$'" in result.message
    core.close(system)


DESCRIPTOR = f"{DEVICES}/HvSocket/HvSocketConfig/DefaultBindSecurityDescriptor"


@pytest.mark.parametrize(
    "text",
    ["", "x", "D", "D:P(A;;FA;;;)", "D:P(A;;FA;;SY)", "D:P(A;;FA;;;SY", "D:P(Q;;FA;;;SY)", "D:P(A;;QQ;;;SY)", "O:S-1-"],
)
def test_security_descriptors_that_are_none(refusal, text):
    assert refusal(put(DESCRIPTOR, text)).code in (INVALID_PARAMETER, 0x80070538, 0x80070539)


@pytest.mark.parametrize(
    "text",
    [
        "D:P(A;;FA;;;SY)(A;;FA;;;BA)",
        "O:SYG:SYD:PAI(A;OICI;GRGX;;;WD)(D;;0x1f01ff;;;S-1-5-32-578)",
        "D:",
        "D:(OA;;RP;bf967aba-0de6-11d0-a285-00aa003049e2;;AU)S:(AU;SAFA;FA;;;WD)",
    ],
)
def test_security_descriptors(core, document, vm_id, text):
    put(DESCRIPTOR, text)(document)
    system, result = core.create(vm_id, document)
    assert result.code == 0
    core.close(system)


@pytest.mark.parametrize(
    ("build", "change", "known"),
    [
        (17763, put(f"{VM}/StopOnReset", True), False),  # LinuxKernelDirect came with 18362
        (18362, put("SchemaVersion/Minor", 2), True),
        (18362, put("SchemaVersion/Minor", 3), False),
        (18362, put(f"{MEMORY}/LowMmioGapInMB", 128), False),
        (19041, put(f"{MEMORY}/LowMmioGapInMB", 128), True),
        (19045, put(f"{MEMORY}/FaultClusterSizeShift", 4), True),
        (19045, put(f"{PROCESSOR}/Reservation", 4), False),
        (20348, put(f"{PROCESSOR}/Reservation", 4), True),
        (19045, put(f"{VM}/Services/Shutdown", {}), False),
        (22000, put(f"{VM}/Services/Shutdown", {}), True),
        (19045, put(f"{DEVICES}/VirtioSerial/Ports/0/ConsoleSupport", True), False),
        (22621, put(f"{DEVICES}/VirtioSerial/Ports/0/ConsoleSupport", True), True),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_a_build_knows(core, document, vm_id, monkeypatch, build, change, known):
    if build == 18362:
        document["SchemaVersion"]["Minor"] = 2
    change(document)
    monkeypatch.setenv("PROPOLIS_HCS_BUILD", str(build))
    system, result = core.create(vm_id, document)
    core.close(system)
    assert result.code == (0 if known else INVALID_JSON), result


@pytest.mark.parametrize(("build", "minor"), [(17763, 1), (18362, 2), (19045, 3), (20348, 5), (22000, 6), (26100, 7)])
def test_service_tells_its_schema(core, monkeypatch, build, minor):
    monkeypatch.setenv("PROPOLIS_HCS_BUILD", str(build))
    answer = core.service({"PropertyTypes": ["Basic"]})
    versions = answer.document["Properties"][0]["SupportedSchemaVersions"]
    assert (answer.code, versions) == (0, [{"Major": 1, "Minor": 0}, {"Major": 2, "Minor": minor}])
    assert core.service({"PropertyTypes": ["Nothing"]}).code == INVALID_JSON


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a\\b", "x" * 129])
def test_ids(core, document, name):
    assert core.create(name, document) == (None, type(core.enumerate())(INVALID_PARAMETER))


def test_id_that_is_no_guid_gives_one(core, document, tmp_path):
    assert core.grant("machine-1", tmp_path / "vmlinux") == 0
    system, result = core.create("machine-1", document)
    assert result.code == 0
    runtime = core.properties(system).document["RuntimeId"]
    assert len(runtime) == 36
    assert runtime != "machine-1"
    core.close(system)
