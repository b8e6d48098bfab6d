"""Which files of the cache the group of all virtual machines may read already, so that each is granted once.

Granting a file again and again fills its access list. The record is advice: where it is lost, a file is granted once
more; where it is wrong, a start fails and the next one does not believe it.
"""

import json
import sys
from pathlib import Path
from typing import Any

from propolis.errors import DiskError
from propolis.host.files import locked, write_atomically

_MOST = 16 << 20


class SharedFiles:
    """The record in one file. Calls may come from any thread."""

    def __init__(self, path: Path) -> None:
        """Use the file `path`, which need not exist yet."""
        self._path = path

    def missing(self, files: list[Path]) -> list[Path]:
        """Those of `files` that are not known to have been granted, as they are now."""
        known = self._read()
        return [path for path in files if known.get(str(path)) != _identity(path)]

    def add(self, files: list[Path]) -> None:
        """They have been granted.

        Raises:
            StorageFull, DiskError: the record cannot be written.
        """
        self._change({str(path): _identity(path) for path in files})

    def forget(self, files: list[Path]) -> None:
        """Whether they have been granted is not sure any more."""
        try:
            self._change({str(path): None for path in files})
        except DiskError:
            self._path.unlink(missing_ok=True)

    def _change(self, changes: dict[str, list[int] | None]) -> None:
        with locked(self._path.with_suffix(".lock")):
            kept = {name: identity for name, identity in self._read().items() if Path(name).exists()} | changes
            found = {name: identity for name, identity in kept.items() if identity is not None}
            write_atomically(self._path, json.dumps(found).encode(), mode=0o600, durable=False)

    def _read(self) -> dict[str, Any]:
        try:
            with self._path.open("rb") as file:
                found = json.loads(file.read(_MOST))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def _identity(path: Path) -> list[int] | None:
    """What tells a file from a later one at its place."""
    try:
        found = path.stat()
    except OSError:
        return None
    # not when it was changed: the cache notes there when a file was used
    return [found.st_ino, found.st_size, *((found.st_ctime_ns,) if sys.platform == "win32" else ())]
