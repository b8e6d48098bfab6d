"""The Linux side of the stand-in for HCS: boots machines, and keeps what outlives a process on Windows.

That is the table of compute systems, which any process may enumerate and open, and the access lists of files. One
compute system of one process is one TCP connection (lines of JSON, see src/bridge.h); the end of the last one is the
end of the machine, unless its document says otherwise. When the bridge ends, everything ends.

    bridge.py --port-file FILE --hvsockets DIRECTORY [--wineprefix DIRECTORY]

runs until its standard input ends. The port is written to FILE when it serves.
"""

import argparse
import contextlib
import shutil
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from hcs import codes, winepath
from hcs.connection import Connection
from hcs.machine import AGENT_SERVICE, FORCED, LUNS, READ_ONLY, Ending, Machine, configuration
from hcs.monitor import MonitorError
from hcs.service import Refusal, System
from propolis.errors import PropolisError
from propolis.spec import Disk, DiskFormat, Share

_EVERY_MACHINE = "*"
_MOST_GRANTS = 64
"""Entries in the access list of one file."""
_LISTENER_PATIENCE = 5.0
"""Seconds in which a guest that dials finds its listener."""
_END_TIMEOUT = 10.0


class Bridge:
    """The service; a context manager. `port` is where the library connects to."""

    def __init__(self, directory: Path, *, hvsockets: Path, wineprefix: Path | None = None) -> None:
        """Serve from now on. `directory` is for what machines leave while they run."""
        self.systems: dict[str, System] = {}
        self.grants: list[tuple[str, str]] = []
        """Pairs of machine and file, as often as they were granted."""
        self.wineprefix = wineprefix
        self._directory = directory
        self._hvsockets = hvsockets
        self._lock = threading.RLock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._connections: set[Connection] = set()
        threading.Thread(target=self._serve, daemon=True, name="hcs-bridge").start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @property
    def processes(self) -> tuple[int, ...]:
        """The pids of the machines that run."""
        with self._lock:
            return tuple(pid for system in self.systems.values() if system.machine for pid in system.machine.pids)

    def close(self) -> None:
        """End every machine and every connection; returns when they are gone."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        with self._lock:
            systems, connections = list(self.systems.values()), list(self._connections)
        for system in systems:
            self.end(system)
        for connection in connections:
            connection.close()

    def _serve(self) -> None:
        while True:
            try:
                channel, _ = self._server.accept()
            except OSError:
                return
            connection = Connection(self, channel)
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=connection.run, daemon=True, name="hcs-connection").start()

    # what requests do

    def create(self, connection: Connection, request: dict) -> None:
        """A new system, held by this connection."""
        name = request["id"]
        with self._lock:
            if name in self.systems:
                raise Refusal(codes.ALREADY_EXISTS)
            directory = Path(tempfile.mkdtemp(dir=self._directory))
            system = System(name, request["runtime"], request["document"], request.get("silent", False), directory)
            self.systems[name] = system
            connection.hold(system)

    def find(self, name: str) -> System:
        """The system of this name."""
        with self._lock:
            if name not in self.systems:
                raise Refusal(codes.NOT_FOUND)
            return self.systems[name]

    def start(self, system: System) -> None:
        """Boot the machine."""
        with self._lock:
            if system.state != "Created":
                raise Refusal(codes.INVALID_STATE)
            try:
                config = configuration(system.document, system.id, system.directory, self.wineprefix)
            except KeyError as error:
                raise Refusal(
                    codes.NOT_SUPPORTED, f"the bridge boots LinuxKernelDirect only, and finds no {error}"
                ) from error
            except ValueError as error:
                raise Refusal(codes.INVALID_PARAMETER, str(error)) from error
            try:
                system.machine = Machine(
                    config,
                    stop_on_reset=system.document["VirtualMachine"].get("StopOnReset", False),
                    dial=lambda: self._dial(system),
                )
            except (MonitorError, PropolisError, OSError) as error:
                raise Refusal(_code_of(str(error)), str(error)) from error
            self._change(system, "Running")
            self._watch(system, system.machine)

    def move(self, system: System, source: str, target: str, command: str) -> None:
        """From one state to another by a command of QEMU's monitor."""
        with self._lock:
            if system.state != source or system.machine is None:
                raise Refusal(codes.ALREADY_STOPPED if system.state == "Stopped" else codes.INVALID_STATE)
            self._order(system.machine, command)
            self._change(system, target)

    def shut_down(self, system: System) -> None:
        """Press the power button."""
        if system.machine is None or system.state != "Running":
            raise Refusal(codes.INVALID_STATE)
        self._order(system.machine, "system_powerdown")

    def end(self, system: System) -> None:
        """Terminate; returns when it is gone."""
        if system.machine is not None:
            system.machine.kill()
            system.ended.wait(_END_TIMEOUT)
        else:
            self._exited(system, FORCED)

    def modify(self, system: System, request: dict) -> None:
        """What HcsModifyComputeSystem asks of the machine that runs; before its start only the document changes."""
        path = request["ResourcePath"].split("/")
        kind, settings = request.get("RequestType", "Update"), request.get("Settings")
        with self._lock:
            devices = system.document["VirtualMachine"].setdefault("Devices", {})
            if path[2] == "Scsi":
                self._modify_disk(system, devices["Scsi"], path[3], path[5], kind, settings)
            elif path[2] == "Plan9":
                self._modify_share(system, devices["Plan9"].setdefault("Shares", []), kind, settings)
            elif path[-1] == "SizeInMB":
                system.document["VirtualMachine"]["ComputeTopology"]["Memory"]["SizeInMB"] = settings

    def _modify_share(self, system: System, shares: list[dict], kind: str, settings: dict) -> None:
        machine, name = system.machine, settings["AccessName"]
        try:
            if machine is not None:
                added = self._share(settings) if kind == "Add" else None
                if not machine.has_spoken:
                    kept = [share for share in machine.config.shares if share.tag != name]
                    system.machine = machine.booted_again((*kept, *filter(None, (added,))))
                    self._watch(system, system.machine)
                elif added is not None:
                    machine.share(added)
                else:
                    machine.unshare(name)
        except MonitorError as error:
            raise Refusal(codes.NOT_SUPPORTED, str(error)) from error
        shares[:] = [share for share in shares if share["Name"] != settings["Name"]]
        shares += [settings] if kind == "Add" else []

    def _share(self, settings: dict) -> Share:
        path = winepath.to_host(settings["Path"], self.wineprefix)
        return Share(tag=settings["AccessName"], path=path, read_only=bool(settings.get("Flags", 0) & READ_ONLY))

    def _modify_disk(
        self, system: System, controllers: dict, controller: str, lun: str, kind: str, settings: dict | None
    ) -> None:
        attachments = controllers[controller].setdefault("Attachments", {})
        address = LUNS * list(controllers).index(controller) + int(lun)
        try:
            if kind == "Remove":
                if system.machine is not None:
                    system.machine.detach(address)
                attachments.pop(lun, None)
                return
            assert settings is not None
            path = winepath.to_host(settings["Path"], self.wineprefix)
            kinds = {".vhd": DiskFormat.VHD, ".vhdx": DiskFormat.VHDX}
            disk = Disk(path=path, format=kinds[path.suffix.lower()], read_only=settings.get("ReadOnly", False))
            if system.machine is not None:
                system.machine.attach(disk, address)
            attachments[lun] = settings
        except MonitorError as error:
            raise Refusal(_code_of(str(error)), str(error)) from error

    def grant(self, name: str, path: str) -> None:
        """An entry in the access list of a file."""
        with self._lock:
            if sum(_same(path, other) for _, other in self.grants) >= _MOST_GRANTS:
                raise Refusal(codes.INVALID_PARAMETER, "the access list is full")
            self.grants.append((name, path))

    def revoke(self, name: str, path: str) -> None:
        """All entries of a machine in the access list of a file."""
        with self._lock:
            self.grants = [entry for entry in self.grants if entry[0] != name or not _same(entry[1], path)]

    def check_granted(self, name: str, path: str) -> None:
        """Refuse what no entry allows."""
        with self._lock:
            if not any(owner in (name, _EVERY_MACHINE) and _same(path, other) for owner, other in self.grants):
                raise Refusal(codes.ACCESS_DENIED)

    # what happens by itself

    def left(self, connection: Connection, system: System) -> None:
        """A process let go of the system; returns when that has had its effect."""
        with self._lock:
            system.connections.remove(connection)
            if system.connections or (system.state != "Stopped" and not system.dies_with_handles):
                return
        self.end(system)
        with self._lock:
            if self.systems.get(system.id) is system:
                del self.systems[system.id]

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""
        with self._lock:
            self._connections.discard(connection)

    def _watch(self, system: System, machine: Machine) -> None:
        def watch() -> None:
            ending = machine.wait()
            if not machine.is_replaced:
                self._exited(system, ending)

        threading.Thread(target=watch, daemon=True).start()

    def _exited(self, system: System, ending: Ending) -> None:
        with self._lock:
            if system.state == "Stopped":
                return
            system.state = "Stopped"
            for connection in system.connections:
                if ending.crash_log:
                    connection.send({"event": "crashed", "log": ending.crash_log})
                connection.send({"event": "exited", "type": ending.type, "status": ending.status})
            if not system.connections:
                self.systems.pop(system.id, None)
        shutil.rmtree(system.directory, ignore_errors=True)
        system.ended.set()

    def _change(self, system: System, state: str) -> None:
        system.state = state
        for connection in system.connections:
            connection.send({"event": "state", "state": state})

    def _order(self, machine: Machine, command: str) -> None:
        try:
            machine.execute(command)
        except MonitorError as error:
            raise Refusal(codes.INVALID_STATE, str(error)) from error

    def _dial(self, system: System) -> socket.socket | None:
        """Connect to the listener that the host has published for the agent's service."""
        published = self._hvsockets / f"{system.runtime}.{AGENT_SERVICE}"
        until = time.monotonic() + (0 if system.silent else _LISTENER_PATIENCE)
        while time.monotonic() < until and system.state != "Stopped":
            with contextlib.suppress(OSError, ValueError):
                return socket.create_connection(("127.0.0.1", int(published.read_text())))
            time.sleep(0.05)
        return None


def _same(left: str, right: str) -> bool:
    """Whether two paths name one file: Windows does not tell cases and slashes apart."""
    if left.startswith("/"):
        return left == right
    return left.replace("/", "\\").casefold() == right.replace("/", "\\").casefold()


def _code_of(words: str) -> int:
    """The HRESULT that stands for what QEMU said."""
    if "lock" in words:
        return codes.SHARING_VIOLATION
    return codes.CORRUPT if "VHDX" in words or "vpc" in words else codes.TERMINATED_DURING_START


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description="Boots the machines of the stand-in for HCS.")
    parser.add_argument("--port-file", type=Path, required=True)
    parser.add_argument("--hvsockets", type=Path, required=True)
    parser.add_argument("--wineprefix", type=Path)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="hcs-bridge-") as directory,
        Bridge(Path(directory), hvsockets=options.hvsockets, wineprefix=options.wineprefix) as bridge,
    ):
        staged = options.port_file.with_suffix(".new")
        staged.write_text(str(bridge.port))
        staged.rename(options.port_file)
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
