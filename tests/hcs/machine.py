"""One machine of the bridge: what an HCS document describes, run by QEMU in the shape of propolis' own QEMU backend.

The console and the agent's port come out as sockets. How the machine ended is read from QEMU's own words: the reason of
its SHUTDOWN event, and the end of the console where a panic stands.
"""

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import anyio

from hcs import winepath
from hcs.monitor import Monitor, MonitorError
from hcs.plan9 import ShareServer
from hcs.streams import Console, GuestPort
from propolis.hypervisor.qemu import argv, probe
from propolis.hypervisor.qemu.process import VMMProcess
from propolis.hypervisor.qemu.qmp import Event
from propolis.spec import Architecture, BootPlan, Disk, DiskFormat, Share, VMConfig

LUNS = 64
"""Of one SCSI controller under Hyper-V."""

AGENT_SERVICE = "00000400-facb-11e6-bd58-64006a7986d3"
"""The agent's vsock port 1024 as an hvsocket service."""

READ_ONLY = 1
"""Of the flags of a Plan9Share."""

_REMOVAL_TIMEOUT = 20.0
_LISTENERS_PATIENCE = 5.0
"""Seconds for whoever reads the console to take the rest of it; an end is not kept back longer."""
_AGENT_DEVICE = "agent0"
_PANIC = b"Kernel panic - not syncing"
_CRASH_LOG = 4096
_LAST_WORDS = 64 << 10
_NOT_FOR_QEMU = ("pci=off", "8250_core.nr_uarts=0")
"""Arguments of a kernel under Hyper-V that would hide QEMU's devices."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a machine ended, in the terms of SystemExitStatus."""

    type: str
    status: int = 0
    crash_log: str = ""


FORCED = Ending("ForcedExit", 0xC0370107)


def configuration(document: dict, name: str, directory: Path, prefix: Path | None) -> VMConfig:
    """The machine that `document` describes, as propolis has it.

    Raises:
        ValueError: a path does not exist on this host.
    """
    machine = document["VirtualMachine"]
    direct, devices = machine["Chipset"]["LinuxKernelDirect"], machine.get("Devices", {})
    topology = machine["ComputeTopology"]
    words = [word for word in direct.get("KernelCmdLine", "").split() if word not in _NOT_FOR_QEMU]
    initrd = direct.get("InitRdPath")
    return VMConfig(
        id=name,
        boot=BootPlan(
            kernel=winepath.to_host(direct["KernelFilePath"], prefix),
            initramfs=winepath.to_host(initrd, prefix) if initrd else Path(),
            cmdline=" ".join(words),
            architecture=Architecture.X86_64,
        ),
        disks=tuple(
            _disk(attachments[lun], prefix)
            for attachments in (controller.get("Attachments", {}) for controller in devices.get("Scsi", {}).values())
            for lun in sorted(attachments, key=int)
        ),
        cpus=topology["Processor"]["Count"],
        memory=topology["Memory"]["SizeInMB"] << 20,
        directory=directory,
        shares=tuple(
            Share(
                tag=share["AccessName"],
                path=winepath.to_host(share["Path"], prefix),
                read_only=bool(share.get("Flags", 0) & READ_ONLY),
            )
            for share in devices.get("Plan9", {}).get("Shares", [])
        ),
    )


def _disk(attachment: dict, prefix: Path | None) -> Disk:
    path = winepath.to_host(attachment["Path"], prefix)
    kinds = {".vhd": DiskFormat.VHD, ".vhdx": DiskFormat.VHDX}
    return Disk(
        path=path,
        format=kinds.get(path.suffix.lower(), DiskFormat.RAW),
        read_only=attachment.get("ReadOnly", False) or attachment["Type"] == "Iso",
    )


def arguments(config: VMConfig, wiring: argv.Wiring, console: int, *, stop_on_reset: bool) -> list[str]:
    """QEMU's command line: the product's, but with its console on a socket, and with names for port and disks."""
    program = probe.binary(config.boot.architecture)
    command = argv.build(program, config, probe.accelerator(), wiring, firmware=probe.firmware(program))
    command[command.index("stdio,id=console,signal=off")] = f"socket,id=console,fd={console}"
    port = next(at for at, word in enumerate(command) if word.startswith("virtserialport,"))
    command[port] += f",id={_AGENT_DEVICE}"
    ports = next(at for at, word in enumerate(command) if word.startswith("virtio-serial"))
    command[ports] = command[ports].partition(",max_ports")[0]  # shares that are added take one each
    for lun in range(len(config.disks)):
        at = next(at for at, word in enumerate(command) if word.endswith(f",lun={lun},drive=disk{lun}"))
        command[at] += f",id={_disk_device(lun)}"
    if config.boot.initramfs == Path():
        at = command.index("-initrd")
        del command[at : at + 2]
    if not stop_on_reset:
        command.remove("-no-reboot")
    return command


class Machine:
    """A QEMU that runs, until `wait` says how it ended."""

    def __init__(
        self,
        config: VMConfig,
        *,
        stop_on_reset: bool,
        dial: Callable[[], socket.socket | None],
        console: Console | None = None,
    ) -> None:
        """Start it; `dial` connects to whoever listens for the guest's agent (None: nobody).

        Raises:
            MonitorError: QEMU did not start.
        """
        self.config = config
        self.console = console or Console()
        self.has_spoken = False
        """Whether its agent's port was opened."""
        self.is_replaced = False
        self._stop_on_reset = stop_on_reset
        self._dial = dial
        self._agent, agent_far = socket.socketpair()
        qmp, qmp_far = socket.socketpair()
        serial, serial_far = socket.socketpair()
        with agent_far, qmp_far, serial_far:
            descriptors = (qmp_far.fileno(), agent_far.fileno(), serial_far.fileno())
            command = arguments(config, argv.Wiring(qmp=descriptors[0], agent=descriptors[1]), descriptors[2],
                                stop_on_reset=stop_on_reset)  # fmt: skip
            self._process = VMMProcess(command, descriptors, config.directory / argv.PID_FILE)
        self._forced = False
        self._removed = threading.Condition()
        self._removals: set[str] = set()
        self._port: GuestPort | None = None
        self._shares: dict[str, ShareServer] = {}
        self._monitor = Monitor(qmp, self._take_event)
        self._reason = ""
        self._threads = [
            threading.Thread(target=self._monitor.run, daemon=True),
            threading.Thread(target=self.console.pump, args=(serial, lambda: self.is_replaced), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        try:
            self._monitor.negotiate()
        except MonitorError as error:
            self.kill()
            self.wait()
            words = " ".join(self._process.messages.text().split())
            raise MonitorError(words or str(error)) from error

    @property
    def pids(self) -> tuple[int, ...]:
        """QEMU's pid while it runs."""
        return self._process.pids

    def execute(self, name: str, /, **values: object) -> None:
        """A command of QEMU's monitor.

        Raises:
            MonitorError: QEMU refused it.
        """
        self._monitor.execute(name, **values)

    def wait(self) -> Ending:
        """Return when QEMU is gone and all it said has been read."""
        anyio.run(self._process.wait)
        for thread in self._threads:
            thread.join(_LISTENERS_PATIENCE)
        if self._port is not None:
            self._port.close()
        self._agent.close()
        for share in self._shares.values():
            share.close()
        if self._forced:
            return FORCED
        if self._reason == "guest-shutdown":
            return Ending("GracefulExit")
        tail = self.console.tail(_LAST_WORDS)
        log = tail[-_CRASH_LOG:].decode(errors="replace") if _PANIC in tail else ""
        return Ending("UnexpectedExit", 0xC0370106, log)

    def kill(self) -> None:
        """End it now."""
        self._forced = True
        self._process.kill()

    def booted_again(self, shares: tuple[Share, ...]) -> "Machine":
        """The machine with these shares from the start, which QEMU needs for virtio-9p; only before it has spoken.

        Raises:
            MonitorError: QEMU did not start.
        """
        self.is_replaced = True
        self.kill()
        until = time.monotonic() + _REMOVAL_TIMEOUT
        while self._process.returncode is None and time.monotonic() < until:
            time.sleep(0.01)
        config = replace(self.config, shares=shares)
        return Machine(config, stop_on_reset=self._stop_on_reset, dial=self._dial, console=self.console)

    def attach(self, disk: Disk, lun: int) -> None:
        """Hot-add a disk.

        Raises:
            MonitorError: QEMU refused it.
        """
        node = {
            "node-name": f"disk{lun}",
            "driver": argv.BLOCK_DRIVERS[disk.format],
            "read-only": disk.read_only,
            "file": {"driver": "file", "filename": str(disk.path), "read-only": disk.read_only},
        }
        self.execute("blockdev-add", **node)
        place = {"bus": "scsi0.0", "scsi-id": 0, "lun": lun}
        self.execute("device_add", driver="scsi-hd", id=_disk_device(lun), drive=f"disk{lun}", **place)

    def detach(self, lun: int) -> None:
        """Remove a disk; returns when its file is closed.

        Raises:
            MonitorError: QEMU refused it.
        """
        self._remove(_disk_device(lun))
        self.execute("blockdev-del", **{"node-name": f"disk{lun}"})

    def share(self, share: Share) -> None:
        """Serve one more directory, at a port of its name.

        Raises:
            MonitorError: QEMU refused it, or there is no server.
        """
        device = _share_device(share.tag)
        server = self._shares[device] = ShareServer(share)
        try:
            address = {"type": "inet", "data": {"host": "127.0.0.1", "port": str(server.port)}}
            backend = {"type": "socket", "data": {"addr": address, "server": False}}
            self.execute("chardev-add", id=device, backend=backend)
            self.execute("device_add", driver="virtserialport", id=device, chardev=device, name=device)
        except MonitorError:
            self._shares.pop(device).close()
            raise

    def unshare(self, tag: str) -> None:
        """Serve it no more, whoever still uses it.

        Raises:
            MonitorError: QEMU refused it.
        """
        device = _share_device(tag)
        if device not in self._shares:
            raise MonitorError("the bridge takes only those shares away that it has added")
        self._remove(device)
        self.execute("chardev-remove", id=device)
        self._shares.pop(device).close()

    def _remove(self, device: str) -> None:
        self.execute("device_del", id=device)
        with self._removed:
            if not self._removed.wait_for(lambda: device in self._removals, _REMOVAL_TIMEOUT):
                raise MonitorError(f"the guest does not let go of {device}")
            self._removals.discard(device)

    def _take_event(self, event: Event) -> None:
        if event.name == "SHUTDOWN":
            self._reason = event.data.get("reason", "")
        elif event.name == "VSERPORT_CHANGE" and event.data.get("id") == _AGENT_DEVICE:
            if self._port is not None:
                self._port.close()
                self._port = None
            if event.data.get("open"):
                self.has_spoken = True
                self._port = GuestPort(self._agent, self._dial)
        elif event.name == "VSERPORT_CHANGE" and (share := self._shares.get(event.data.get("id", ""))):
            share.opened(event.data.get("open", False))
        elif event.name == "DEVICE_DELETED":
            with self._removed:
                self._removals.add(event.data.get("device", ""))
                self._removed.notify_all()


def _share_device(tag: str) -> str:
    return f"share.{tag}"


def _disk_device(lun: int) -> str:
    return f"lun{lun}"
