"""What the bridge remembers: compute systems, and why it refuses."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hcs.machine import Machine


class Holder(Protocol):
    """A connection that holds a system."""

    def send(self, message: dict) -> None:
        """Tell it of an event."""


class Refusal(Exception):
    """A request that fails, with its HRESULT."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass
class System:
    """A compute system as the service knows it."""

    id: str
    runtime: str
    document: dict
    silent: bool
    """The guest's agent finds no listener."""
    directory: Path
    state: str = "Created"
    machine: Machine | None = None
    connections: list[Holder] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def dies_with_handles(self) -> bool:
        """Whether it ends when the last process closes it."""
        return self.document.get("ShouldTerminateOnLastHandleClosed", False)

    def properties(self) -> dict:
        """What an enumeration tells of it."""
        owner = {"Owner": self.document["Owner"]} if "Owner" in self.document else {}
        return {
            "Id": self.id,
            "SystemType": "VirtualMachine",
            **owner,
            "RuntimeId": self.runtime,
            "State": self.state,
            "RuntimeOsType": "Unknown",
        }
