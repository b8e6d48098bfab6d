"""One machine of the bridge: what an HCS document describes, run by QEMU in the shape of propolis' own QEMU backend.

The console and the agent's port come out as sockets. How the machine ended is read from QEMU's own words: the reason of
its SHUTDOWN event, and the end of the console where a panic stands.
"""

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio

from hcs import winepath
from propolis.hypervisor.qemu import argv, probe
from propolis.hypervisor.qemu.process import VMMProcess
from propolis.hypervisor.qemu.qmp import Connection, Event, Greeting, Reply
from propolis.spec import Architecture, BootPlan, Disk, DiskFormat, Share, VMConfig

LUNS = 64
"""Of one SCSI controller under Hyper-V."""

AGENT_SERVICE = "00000400-facb-11e6-bd58-64006a7986d3"
"""The agent's vsock port 1024 as an hvsocket service."""

_START_TIMEOUT = 30.0
_REPLY_TIMEOUT = 20.0
_DRAIN_TIMEOUT = 5.0
_SILENCE = 0.1
_AGENT_DEVICE = "agent0"
_CONSOLE_BACKLOG = 1 << 20
_PANIC = b"Kernel panic - not syncing"
_CRASH_LOG = 4096
_NOT_FOR_QEMU = ("pci=off", "8250_core.nr_uarts=0")
"""Arguments of a kernel under Hyper-V that would hide QEMU's devices."""


class StartError(Exception):
    """QEMU did not start; the text has its words."""


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
                read_only=bool(share.get("Flags", 0) & 1),
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
    """QEMU's command line: the product's, with the console on a socket, and a port that tells of its opening."""
    program = probe.binary(config.boot.architecture)
    command = argv.build(program, config, probe.accelerator(), wiring, firmware=probe.firmware(program))
    command[command.index("stdio,id=console,signal=off")] = f"socket,id=console,fd={console}"
    port = next(at for at, word in enumerate(command) if word.startswith("virtserialport,"))
    command[port] += f",id={_AGENT_DEVICE}"
    if config.boot.initramfs == Path():
        at = command.index("-initrd")
        del command[at : at + 2]
    if not stop_on_reset:
        command.remove("-no-reboot")
    return command


class Machine:
    """A QEMU that runs. `ended` is called once, from a thread, when it is gone."""

    def __init__(self, config: VMConfig, *, stop_on_reset: bool, dial: Callable[[], socket.socket | None]) -> None:
        """Start it; `dial` connects to whoever listens for the guest's agent (None: nobody).

        Raises:
            StartError: QEMU did not start.
        """
        self.console = Console()
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
        self._port: AgentPort | None = None
        self._monitor = Monitor(qmp, self._take_event)
        self._reason = ""
        self._threads = [
            threading.Thread(target=self._monitor.run, daemon=True),
            threading.Thread(target=self.console.pump, args=(serial,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        try:
            self._monitor.negotiate()
        except StartError as error:
            self.kill()
            self.wait()
            words = " ".join(self._process.messages.text().split())
            raise StartError(words or str(error)) from error

    @property
    def pids(self) -> tuple[int, ...]:
        """QEMU's pid while it runs."""
        return self._process.pids

    def execute(self, name: str, **values: object) -> None:
        """A command of QEMU's monitor.

        Raises:
            StartError: QEMU refused it.
        """
        self._monitor.execute(name, **values)

    def wait(self) -> Ending:
        """Return when QEMU is gone and all it said has been read."""
        anyio.run(self._process.wait)
        for thread in self._threads:
            thread.join()
        if self._port is not None:
            self._port.close()
        self._agent.close()
        if self._forced:
            return FORCED
        if self._reason == "guest-shutdown":
            return Ending("GracefulExit")
        tail = self.console.tail()
        log = tail[-_CRASH_LOG:].decode(errors="replace") if _PANIC in tail else ""
        return Ending("UnexpectedExit", 0xC0370106, log)

    def kill(self) -> None:
        """End it now."""
        self._forced = True
        self._process.kill()

    def attach(self, disk: Disk, lun: int) -> None:
        """Hot-add a disk."""
        node = {
            "node-name": f"hot{lun}",
            "driver": argv.BLOCK_DRIVERS[disk.format],
            "read-only": disk.read_only,
            "file": {"driver": "file", "filename": str(disk.path), "read-only": disk.read_only},
        }
        self.execute("blockdev-add", **node)
        self.execute(
            "device_add",
            driver="scsi-hd",
            bus="scsi0.0",
            id=f"hotdisk{lun}",
            drive=f"hot{lun}",
            **{"scsi-id": 0, "lun": lun},
        )

    def detach(self, lun: int) -> None:
        """Remove a disk that was hot-added."""
        self.execute("device_del", id=f"hotdisk{lun}")

    def _take_event(self, event: Event) -> None:
        if event.name == "SHUTDOWN":
            self._reason = event.data.get("reason", "")
        elif event.name == "VSERPORT_CHANGE" and event.data.get("id") == _AGENT_DEVICE:
            if self._port is not None:
                self._port.close()
                self._port = None
            if event.data.get("open"):
                self._port = AgentPort(self._agent, self._dial)


class Monitor:
    """QMP over a socket: one thread reads, others ask in turn."""

    def __init__(self, channel: socket.socket, take_event: Callable[[Event], None]) -> None:
        self._channel = channel
        self._take_event = take_event
        self._connection = Connection()
        self._changed = threading.Condition()
        self._greeted = self._gone = False
        self._replies: list[Reply] = []
        self._turn = threading.Lock()

    def run(self) -> None:
        """Read until QEMU is gone."""
        with contextlib.closing(self._channel):
            while data := _receive(self._channel):
                for message in self._connection.receive(data):
                    self._take(message)
            with self._changed:
                self._gone = True
                self._changed.notify_all()

    def _take(self, message: Greeting | Reply | Event) -> None:
        if isinstance(message, Event):
            self._take_event(message)
            return
        with self._changed:
            if isinstance(message, Greeting):
                self._greeted = True
            else:
                self._replies.append(message)
            self._changed.notify_all()

    def negotiate(self) -> None:
        """Wait for the greeting, and answer it."""
        with self._changed:
            self._changed.wait_for(lambda: self._greeted or self._gone, _START_TIMEOUT)
        self.execute("qmp_capabilities")

    def execute(self, name: str, **values: object) -> None:
        """See `Machine.execute`."""
        with self._turn:
            with contextlib.suppress(OSError):
                self._channel.sendall(Connection.command(name, **values))
            with self._changed:
                self._changed.wait_for(lambda: self._replies or self._gone, _REPLY_TIMEOUT)
                if not self._replies:
                    raise StartError("QEMU is gone")
                reply = self._replies.pop(0)
        if reply.error is not None:
            raise StartError(f"QEMU refused {name}: {reply.error}")


class Console:
    """The serial port: kept while nobody listens, then passed on."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._listener: socket.socket | None = None
        self._ended = False
        self._lock = threading.Lock()

    def pump(self, serial: socket.socket) -> None:
        """Read the serial port to its end."""
        with serial:
            while data := _receive(serial):
                with self._lock:
                    self._kept += data
                    del self._kept[:-_CONSOLE_BACKLOG]
                    listener = self._listener
                if listener is not None:
                    self._pass_on(listener, data)
        with self._lock:
            self._ended = True
            if self._listener is not None:
                self._listener.close()

    def attach(self, listener: socket.socket) -> None:
        """Give `listener` what was kept, and from now on what comes; it is closed at the end."""
        with self._lock:
            self._pass_on(listener, bytes(self._kept))
            if self._ended:
                listener.close()
            else:
                self._listener = listener

    def tail(self) -> bytes:
        """The end of what was said."""
        with self._lock:
            return bytes(self._kept[-16 * _CRASH_LOG :])

    def _pass_on(self, listener: socket.socket, data: bytes) -> None:
        try:
            listener.sendall(data)
        except OSError:
            self._listener = None


class AgentPort:
    """The guest has opened its port: a connection to the listener of the host, and both directions of it."""

    def __init__(self, guest: socket.socket, dial: Callable[[], socket.socket | None]) -> None:
        self._guest = guest
        self._host: socket.socket | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._relay, args=(dial,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The guest has closed it, or is gone: what it said before is passed on, then the connection ends."""
        self._closing = True
        self._thread.join(_DRAIN_TIMEOUT)
        if self._host is not None:
            with contextlib.suppress(OSError):
                self._host.shutdown(socket.SHUT_RDWR)

    def _relay(self, dial: Callable[[], socket.socket | None]) -> None:
        self._host = dial()
        if self._host is None:
            return
        with self._host:
            threading.Thread(target=_copy, args=(self._host, self._guest), daemon=True).start()
            with contextlib.suppress(OSError):
                while self._has_data() and (data := _receive(self._guest)):
                    self._host.sendall(data)
                self._host.shutdown(socket.SHUT_WR)

    def _has_data(self) -> bool:
        while not (ready := select.select([self._guest], [], [], _SILENCE)[0]):
            if self._closing:
                break
        return bool(ready)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := _receive(source):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(1 << 16)
    except OSError:
        return b""
