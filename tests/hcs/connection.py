"""One connection of the library to the bridge: requests in, replies and events out, a line of JSON each."""

import contextlib
import json
import socket
import threading
from typing import TYPE_CHECKING

from hcs import codes
from hcs.service import Refusal, System

if TYPE_CHECKING:
    from hcs.bridge import Bridge


class Connection:
    """One process' hold on the service or on one system."""

    def __init__(self, bridge: "Bridge", channel: socket.socket) -> None:
        self._bridge = bridge
        self._channel = channel
        self._system: System | None = None
        self._sending = threading.Lock()

    def hold(self, system: System) -> None:
        """From now on this connection is a handle of `system`."""
        self._system = system
        system.connections.append(self)

    def send(self, message: dict) -> None:
        """One line; whoever is gone does not get it."""
        with self._sending, contextlib.suppress(OSError):
            self._channel.sendall(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        """Answer requests until the process is gone."""
        handed_over = False
        lines = self._channel.makefile("rb")
        try:
            for line in lines:
                request = json.loads(line)
                if request["op"] == "console":
                    handed_over = self._console(request["id"])
                    break
                self.send({"n": request["n"], **self._answer(request)})
        except (OSError, ValueError):
            pass
        finally:
            lines.close()
            self._let_go()
            self._bridge.forget(self)
            if not handed_over:
                self._channel.close()

    def _let_go(self) -> None:
        system, self._system = self._system, None
        if system is not None:
            self._bridge.left(self, system)

    def _console(self, name: str) -> bool:
        try:
            machine = self._bridge.find(name).machine
        except Refusal:
            return False
        if machine is not None:
            machine.console.attach(self._channel)
        return machine is not None

    def _answer(self, request: dict) -> dict:
        try:
            return {"hresult": 0, **(self._perform(request) or {})}
        except Refusal as refusal:
            return {"hresult": refusal.code, "message": str(refusal) or f"refused with 0x{refusal.code:08x}"}

    def _perform(self, request: dict) -> dict | None:
        operation, bridge = request["op"], self._bridge
        if operation in ("hello", "close"):
            self._let_go()
            return None
        if operation == "enumerate":
            return {"systems": [system.properties() for system in list(bridge.systems.values())]}
        if operation in ("grant", "revoke", "granted"):
            perform = {"grant": bridge.grant, "revoke": bridge.revoke, "granted": bridge.check_granted}[operation]
            perform(request["id"], request["path"])
            return None
        if operation == "create":
            bridge.create(self, request)
            return None
        system = bridge.find(request["id"])
        if operation == "open":
            self.hold(system)
        elif operation == "find":
            return {"document": system.document, "state": system.state}
        elif operation == "start":
            bridge.start(system)
        elif operation == "pause":
            bridge.move(system, "Running", "Paused", "stop")
        elif operation == "resume":
            bridge.move(system, "Paused", "Running", "cont")
        elif operation == "shutdown":
            bridge.shut_down(system)
        elif operation == "terminate":
            bridge.end(system)
        elif operation == "modify":
            bridge.modify(system, request["request"])
        else:
            raise Refusal(codes.INVALID_PARAMETER, f"the bridge does not know {operation}")
        return None
