"""A machine's QEMU command line, built from values alone.

Pure: asks the host nothing, opens nothing. Follows qemu-system(1), QEMU 6.2 and later. Nothing secret may be given to
it, as every user of the host can read a command line.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from propolis.spec import Architecture, Disk, DiskFormat, Share, VMConfig

AGENT_PORT = "propolis.agent.0"
"""Name of the virtio-serial port that the guest's agent looks for."""

BLOCK_DRIVERS = {DiskFormat.RAW: "raw", DiskFormat.VHD: "vpc", DiskFormat.VHDX: "vhdx"}
"""QEMU's name for each container we attach."""

PID_FILE = "vmm.pid"

TRANSLATION_BUFFER_MIB = 64
"""TCG's code cache. Unbounded it grows towards 1 GiB; 64 MiB costs no measurable time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """Inherited descriptors that QEMU is to use: connected stream sockets."""

    qmp: int
    agent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """How guest code is executed: QEMU's `-accel` and the `-cpu` that goes with it."""

    accel: str
    cpu: str
    emulated: bool = False


TCG = Accelerator(accel=f"tcg,tb-size={TRANSLATION_BUFFER_MIB}", cpu="max,-erms,-fsrm", emulated=True)
"""Without "fast string" bits the kernel copies and clears memory by words: emulated, `rep movsb` goes byte by byte."""
KVM = Accelerator(accel="kvm", cpu="host")

_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
"""A guest that breaks out into QEMU finds a process that may not start others or raise its rights (seccomp)."""


def build(
    binary: Path,
    config: VMConfig,
    accelerator: Accelerator,
    wiring: Wiring,
    *,
    firmware: Path | None = None,
    sandbox: bool = True,
) -> list[str]:
    """The argument list that starts `config`, the program first.

    `firmware` replaces QEMU's own choice; `sandbox` is only for systems that have seccomp.
    """
    return [
        str(binary),
        *(("-sandbox", _SANDBOX) if sandbox else ()),
        *_board(config, accelerator),
        *(("-bios", str(firmware)) if firmware else ()),
        *_boot(config, accelerator),
        *_console_and_monitor(wiring),
        *_agent(wiring, accelerator),
        *_disks(config.disks, accelerator),
        *_shares(config.shares),
    ]


def _board(config: VMConfig, accelerator: Accelerator) -> list[str]:
    timer = "on" if _ticks_by_hpet(config, accelerator) else "off"
    machine = {
        # each of these is a device or a service that firmware and kernel would otherwise spend time on
        Architecture.X86_64: f"q35,usb=off,smbus=off,sata=off,vmport=off,hpet={timer},graphics=off",
        Architecture.AARCH64: "virt",
    }[config.boot.architecture]
    return [
        *("-name", f"propolis-{config.id}"),
        *("-nodefaults", "-no-user-config"),
        *("-display", "none"),
        # a guest that resets has panicked (panic=-1): the machine ends instead of booting again
        "-no-reboot",
        *("-machine", machine),
        *("-accel", accelerator.accel),
        *("-cpu", accelerator.cpu),
        *("-smp", str(config.cpus)),
        *("-m", f"{config.memory >> 20}M"),
        *("-pidfile", str(config.directory / PID_FILE)),
    ]


def _ticks_by_hpet(config: VMConfig, accelerator: Accelerator) -> bool:
    """Whether the kernel is spared the calibration of the local APIC's timer: a tenth of a second, by the clock.

    Only with one processor, as the HPET cannot wake several.
    """
    return accelerator.emulated and config.cpus == 1 and config.boot.architecture is Architecture.X86_64


def _boot(config: VMConfig, accelerator: Accelerator) -> list[str]:
    boot = config.boot
    # guests look for disks themselves, on the one target that has any: the kernel would ask 256
    arguments = [config.boot.cmdline, "scsi_mod.scan=manual"]
    if _ticks_by_hpet(config, accelerator):
        # nor rewrites it its own locks for one processor: each change of code throws away what was translated
        arguments += ["noapictimer", "noreplace-smp"]
    if accelerator.emulated and boot.architecture is Architecture.X86_64:
        # nor whether timer interrupts come, which takes five of them
        arguments += ["no_timer_check"]
    return ["-kernel", str(boot.kernel), "-initrd", str(boot.initramfs), "-append", " ".join(arguments)]


def _console_and_monitor(wiring: Wiring) -> list[str]:
    return [
        *("-chardev", "stdio,id=console,signal=off"),
        *("-serial", "chardev:console"),
        *("-chardev", f"socket,id=qmp,fd={wiring.qmp}"),
        *("-mon", "chardev=qmp,mode=control"),
    ]


def _notified(accelerator: Accelerator) -> str:
    """An option of virtio devices. An emulated processor does itself what it asks for: a thread would have to wake."""
    return ",ioeventfd=off" if accelerator.emulated else ""


def _agent(wiring: Wiring, accelerator: Accelerator) -> list[str]:
    return [
        *("-device", f"virtio-serial-pci,id=serial0,max_ports=2{_notified(accelerator)}"),
        *("-chardev", f"socket,id=agent,fd={wiring.agent}"),
        *("-device", f"virtserialport,bus=serial0.0,chardev=agent,name={AGENT_PORT}"),
    ]


def _disks(disks: tuple[Disk, ...], accelerator: Accelerator) -> list[str]:
    """One virtio-scsi controller, LUN by LUN, as disks are addressed under Hyper-V too."""
    arguments = ["-device", f"virtio-scsi-pci,id=scsi0,num_queues=1{_notified(accelerator)}"]
    for lun, disk in enumerate(disks):
        node = {
            "node-name": f"disk{lun}",
            "driver": BLOCK_DRIVERS[disk.format],
            "read-only": disk.read_only,
            "file": {"driver": "file", "filename": str(disk.path), "read-only": disk.read_only},
        }
        if not disk.read_only:
            # the machine's own disk goes when the machine goes: flushing it to the platter helps nobody
            node["cache"] = {"no-flush": True}
            node["discard"] = "unmap"
        arguments += ["-blockdev", json.dumps(node, separators=(",", ":"))]
        arguments += ["-device", f"scsi-hd,bus=scsi0.0,scsi-id=0,lun={lun},drive=disk{lun}"]
    return arguments


def _shares(shares: tuple[Share, ...]) -> list[str]:
    """Directories over virtio-9p. QEMU follows no link in them, so what the guest writes there cannot lead out.

    `none`: files that the guest makes belong to whoever runs QEMU, wherever that is not root, and look as usual.
    """
    arguments = []
    for share in shares:
        path = str(share.path).replace(",", ",,")
        read_only = ",readonly=on" if share.read_only else ""
        options = f"local,id={share.tag},path={path},security_model=none,multidevs=remap{read_only}"
        arguments += ["-fsdev", options, "-device", f"virtio-9p-pci,fsdev={share.tag},mount_tag={share.tag}"]
    return arguments
