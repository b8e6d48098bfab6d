"""What is remembered of one machine, as a frozen value."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """A process on the host, told apart from later ones with the same pid by when it started."""

    pid: int
    start: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRecord:
    """One machine: who owns it, what runs it, where its files are."""

    id: str
    name: str
    image: str
    directory: Path
    owner: ProcessIdentity
    vmm: ProcessIdentity | None = None
