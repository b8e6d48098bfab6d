"""What machines of this user hold in Windows beside their process: written down before it is taken, struck out after.

One small JSON file for each machine. A process that is killed leaves its files' access lists changed and, should
somebody else hold the machine's handle, the machine; from the ledger the next one knows what to undo, and whether the
owner still lives. Knows nothing of HCS.
"""

import contextlib
import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from propolis.host import system
from propolis.host.files import sweep, write_atomically

_MOST_ENTRY = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One machine: its compute system, the process that owns it, and the files its account was given access to."""

    identity: str
    pid: int
    start: str
    files: tuple[str, ...] = ()

    @property
    def is_orphan(self) -> bool:
        """Whether its owner is dead, and not just another process has the owner's pid."""
        return system.process_start(self.pid) != self.start


class Ledger:
    """The entries in one directory. Calls may come from any thread."""

    def __init__(self, directory: Path) -> None:
        """Use `directory`, which need not exist yet."""
        self._directory = directory

    def write(self, identity: uuid.UUID, files: tuple[str, ...]) -> None:
        """Write down, as this process', what is about to be taken.

        Raises:
            StorageFull, DiskError: it cannot be written.
        """
        pid = os.getpid()
        entry = Entry(identity=str(identity), pid=pid, start=system.process_start(pid) or "", files=files)
        # a power cut ends the machine as well, so only a killed process matters
        write_atomically(self._path(str(identity)), json.dumps(asdict(entry)).encode(), mode=0o600, durable=False)

    def strike(self, identity: str) -> None:
        """Everything of that machine has been undone. Idempotent."""
        self._path(identity).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what writers that were killed left half written."""
        with contextlib.suppress(OSError):
            sweep(self._directory)

    def entries(self) -> list[Entry]:
        """All machines that are written down. What cannot be read as an entry is passed over."""
        try:
            paths = sorted(self._directory.glob("*.json"))
        except OSError:
            return []
        return [entry for path in paths if (entry := _read(path)) is not None]

    def _path(self, identity: str) -> Path:
        return self._directory / f"{identity}.json"


def _read(path: Path) -> Entry | None:
    try:
        with path.open("rb") as file:
            found: Any = json.loads(file.read(_MOST_ENTRY))
        identity, pid, start, files = found["identity"], found["pid"], found["start"], found["files"]
        known = str(uuid.UUID(identity)) == path.stem and type(pid) is int and isinstance(start, str)
        if not known or not all(isinstance(name, str) for name in files):
            return None
        return Entry(identity=identity, pid=pid, start=start, files=tuple(files))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
