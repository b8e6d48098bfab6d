"""The documents that HCS is sent: a machine, changes to it, queries. Values in, values out.

Pure: asks the host nothing. Follows Microsoft's published schema (versions 2.1 to 2.3) and what has been seen to boot
Linux with it. A host may refuse fields that it does not know, so what is written depends on its build.
"""

import uuid
from typing import Any

from propolis.errors import BackendUnavailable, Unsupported
from propolis.spec import Architecture, BootPlan, Disk, Share, VMConfig

OWNER = "propolis"
"""By which our compute systems are told from those of WSL, Docker and others."""

CONTROLLERS = (
    "df6d0690-79e5-55b6-a5ec-c1e2f77f580a",
    "0110f83b-de10-5172-a266-78bca56bf50a",
    "b5d2d8d4-3a75-51bf-945b-3444dc6b8579",
    "305891a9-b251-5dfe-91a2-c25d9212275b",
)
"""SCSI controllers in the order in which disks fill them; each is also its VMBus instance, where the guest finds it."""

LUNS = 64
"""Disks at one controller."""

SHARE_PORT = 564
"""The vsock port at which the guest reaches the Plan 9 server of the host."""

_NAMESPACE = uuid.UUID("8d0c3f3e-6f0b-5c1d-9a0e-70726f706f6c")

_OLDEST = 18362
_COLD_DISCARD_SINCE = _SCHEMA_2_3_SINCE = 19041
_READ_ONLY, _LINUX_METADATA, _USE_SHARE_ROOT_IDENTITY = 0x1, 0x4, 0x10
_MEMORY_STEP = 16
"""MiB. Microsoft's own programs keep to even numbers, but a host was seen to refuse 8006 where it took 8000."""

_ALWAYS = (
    # keeps virtio-vsock from becoming the guest's vsock transport before hv_sock
    "initcall_blacklist=virtio_vsock_init",
    "brd.rd_nr=0",
    "pty.legacy_count=0",
    # the clock is put right after the host has slept
    "hv_utils.timesync_implicit=1",
)
_X86 = (
    # one UART, not probed for a transmit bug that only shows as a delay
    "8250_core.nr_uarts=1",
    "8250_core.skip_txen_test=1",
    # there is no PCI bus to scan and no ACPI timer to calibrate
    "pci=off",
    "pmtmr=0",
)
_FREE_PAGES = "page_reporting.page_reporting_order=9"
"""Memory that the guest frees goes back to the host in pieces of 2 MiB."""


def system_id(machine_id: str) -> uuid.UUID:
    """The compute system's id. A GUID, as HCS then uses it for the running machine as well, and always the same one."""
    return uuid.uuid5(_NAMESPACE, machine_id)


def build(config: VMConfig, *, pipe: str, sid: str, windows: int) -> dict[str, Any]:
    """The document of a machine.

    Args:
        config: the machine; its paths are used as they are.
        pipe: path of the pipe that takes the console.
        sid: the user who may connect to the machine.
        windows: build number of the host.

    Raises:
        BackendUnavailable: that Windows is too old.
        Unsupported: more disks than there are places.
    """
    check_build(windows)
    return {
        "Owner": OWNER,
        "SchemaVersion": {"Major": 2, "Minor": 3 if windows >= _SCHEMA_2_3_SINCE else 2},
        "ShouldTerminateOnLastHandleClosed": True,
        "VirtualMachine": {
            # a guest that resets has panicked (panic=-1): the machine ends instead of booting again
            "StopOnReset": True,
            "Chipset": _chipset(config, windows),
            "ComputeTopology": {"Memory": _memory(config.memory, windows), "Processor": {"Count": config.cpus}},
            "Devices": {
                "Scsi": _controllers(config.disks),
                "ComPorts": {"0": {"NamedPipe": pipe}},
                "HvSocket": {"HvSocketConfig": _sockets(sid)},
                # directories come once the machine runs, as only then it can be said whose rights they are opened with
                "Plan9": {},
            },
        },
    }


def check_build(windows: int) -> None:
    """Refuse a Windows without Linux machines.

    Raises:
        BackendUnavailable: it is older than Windows 10 1903.
    """
    if windows < _OLDEST:
        raise BackendUnavailable(
            f"Windows build {windows} is too old for Linux machines, build {_OLDEST} (Windows 10 1903) is the first",
            hint="update Windows, to Windows 10 2004 (build 19041) or later",
        )


def _chipset(config: VMConfig, windows: int) -> dict[str, Any]:
    boot, line = config.boot, command_line(config, windows)
    if boot.architecture is Architecture.AARCH64:
        return {"UseUtc": True, "Uefi": {"BootThis": _boot_by_firmware(boot, line)}}
    direct = {"KernelFilePath": str(boot.kernel), "InitRdPath": str(boot.initramfs), "KernelCmdLine": line}
    return {"UseUtc": True, "LinuxKernelDirect": direct}


def _boot_by_firmware(boot: BootPlan, line: str) -> dict[str, Any]:
    """Where the kernel cannot be entered directly, the firmware reads it and the initramfs from a directory."""
    if boot.kernel.parent != boot.initramfs.parent:
        raise Unsupported("the firmware of an aarch64 machine reads kernel and initramfs from one directory only")
    return {
        "DeviceType": "VmbFs",
        "VmbFsRootPath": str(boot.kernel.parent),
        "DevicePath": f"\\{boot.kernel.name}",
        "OptionalData": f"initrd=\\{boot.initramfs.name} {line}",
    }


def command_line(config: VMConfig, windows: int) -> str:
    """The kernel's command line: the machine's own, then what only Hyper-V needs."""
    arguments = [config.boot.cmdline, *_ALWAYS]
    if config.boot.architecture is Architecture.X86_64:
        arguments += _X86
    if windows >= _COLD_DISCARD_SINCE:
        arguments.append(_FREE_PAGES)
    return " ".join((*arguments, f"nr_cpus={config.cpus}"))


def _memory(size: int, windows: int) -> dict[str, Any]:
    document = {
        "SizeInMB": _MEMORY_STEP * -(-size // (_MEMORY_STEP << 20)),
        "AllowOvercommit": True,
        "EnableDeferredCommit": True,
    }
    return document | ({"EnableColdDiscardHint": True} if windows >= _COLD_DISCARD_SINCE else {})


def place(index: int) -> tuple[str, int]:
    """Controller and LUN of the disk with that index.

    Raises:
        Unsupported: there is no such place.
    """
    controller, lun = divmod(index, LUNS)
    if controller >= len(CONTROLLERS):
        raise Unsupported(
            f"Hyper-V attaches at most {LUNS * len(CONTROLLERS)} disks", hint="use an image with fewer layers"
        )
    return CONTROLLERS[controller], lun


def _controllers(disks: tuple[Disk, ...]) -> dict[str, Any]:
    document: dict[str, Any] = {CONTROLLERS[0]: {"Attachments": {}}}
    for index, disk in enumerate(disks):
        controller, lun = place(index)
        document.setdefault(controller, {"Attachments": {}})["Attachments"][str(lun)] = _attachment(disk)
    return document


def _attachment(disk: Disk) -> dict[str, Any]:
    return {"Type": "VirtualDisk", "Path": str(disk.path), "ReadOnly": disk.read_only}


def _share(share: Share, *, as_user: bool) -> dict[str, Any]:
    flags = _LINUX_METADATA | (_READ_ONLY if share.read_only else 0) | (_USE_SHARE_ROOT_IDENTITY if as_user else 0)
    return {"Name": share.tag, "AccessName": share.tag, "Path": str(share.path), "Port": SHARE_PORT, "Flags": flags}


def _sockets(sid: str) -> dict[str, Any]:
    """Who may listen for the machine and connect to it: the system, elevated administrators, and its user."""
    descriptor = f"D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;{sid})"
    return {"DefaultBindSecurityDescriptor": descriptor, "DefaultConnectSecurityDescriptor": descriptor}


def _modification(kind: str, path: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    document: dict[str, Any] = {"ResourcePath": f"VirtualMachine/Devices/{path}", "RequestType": kind}
    return document | ({} if settings is None else {"Settings": settings})


def add_share(share: Share, *, as_user: bool) -> dict[str, Any]:
    """The request that shows a running machine one more directory.

    With `as_user` its files are opened with the rights of the token that comes with the request, otherwise with those
    of the machine's own account.
    """
    return _modification("Add", "Plan9/Shares", _share(share, as_user=as_user))


def remove_share(tag: str) -> dict[str, Any]:
    """The request that takes a directory away again."""
    return _modification("Remove", "Plan9/Shares", {"Name": tag, "AccessName": tag, "Port": SHARE_PORT})


def add_disk(index: int, disk: Disk) -> dict[str, Any]:
    """The request that attaches one more disk; its controller must have been in the machine's document."""
    return _modification("Add", _disk_path(index), _attachment(disk))


def remove_disk(index: int) -> dict[str, Any]:
    """The request that detaches a disk, which the guest must have let go of."""
    return _modification("Remove", _disk_path(index))


def _disk_path(index: int) -> str:
    controller, lun = place(index)
    return f"Scsi/{controller}/Attachments/{lun}"


def ours() -> dict[str, Any]:
    """The query for every machine of ours on this host."""
    return {"Owners": [OWNER], "Types": ["VirtualMachine"]}


def save_options(path: str) -> dict[str, Any]:
    """The options of a save to a file."""
    return {"SaveType": "ToFile", "SaveStateFilePath": path}


SERVICE_QUERY: dict[str, Any] = {"PropertyTypes": ["Basic"]}
"""What shows whether this user can talk to the service at all."""
