"""What a name meant when it was last asked for: a small record for each full name, in a file of its own.

`<blobs>/tags/<sha256 of the name>.json`, whole or not there; its time of change is that of the last use. One that is
damaged counts as absent, and is collected. Names are tags, or `@DIGEST` for what was asked for so. What no record leads
to may be collected. Knows nothing of registries.
"""

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from propolis.errors import DiskError
from propolis.host import system
from propolis.host.files import storage_errors, write_atomically
from propolis.image import digest as digests

_MAX_RECORD = 64 << 10
_USE = 60.0
"""Seconds within which a use is not noted once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRecord:
    """What is known of one name."""

    name: str
    digest: str
    """Of the manifest or index."""
    is_fetched: bool
    """Whether a registry had it under this name, so that what is missing can be fetched."""
    used: float
    """When it was last asked for, in seconds since the epoch."""


class TagRecords:
    """The records below `directory`, which need not exist yet. For any number of threads and processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def digest(self, name: str) -> str | None:
        """The digest of the manifest or index that `name` named; None where nothing is known.

        Raises:
            DiskError: the host does not let it be read.
        """
        found = self.get(name)
        return None if found is None else found.digest

    def get(self, name: str) -> TagRecord | None:
        """What is known of `name`; None when nothing is.

        Raises:
            DiskError: the host does not let it be read.
        """
        return self._whole(self._path(name))

    def all(self) -> list[TagRecord]:
        """Every record, by name.

        Raises:
            DiskError: the host does not let one be read.
        """
        found = [record for path in self._directory.glob("*.json") if (record := self._whole(path)) is not None]
        return sorted(found, key=lambda record: record.name)

    def damaged(self) -> list[Path]:
        """Files that are no record of the name that they would be found by.

        Raises:
            DiskError: the host does not let one be read.
        """
        return [path for path in sorted(self._directory.glob("*.json")) if self._whole(path) is None]

    def keep(self, name: str, digest: str, *, is_fetched: bool = False) -> None:
        """From now on `name` names `digest`.

        Raises:
            StorageFull, DiskError: the directory cannot be written to.
        """
        found = self.get(name)
        if found is None or (found.digest, found.is_fetched) != (digest, is_fetched):
            document = {"name": name, "digest": digest, "fetched": is_fetched}
            write_atomically(self._path(name), json.dumps(document).encode())
        else:
            self.touch(name)

    def touch(self, name: str) -> None:
        """Note that `name` is used; where that cannot be noted, it is not."""
        path = self._path(name)
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _USE:
                os.utime(path)

    def remove(self, name: str) -> None:
        """Forget `name`.

        Raises:
            DiskError: the directory cannot be written to.
        """
        path = self._path(name)
        with storage_errors(path):
            system.remove_file(path)
            if path.parent.is_dir():
                system.sync_directory(path.parent)

    def _whole(self, path: Path) -> TagRecord | None:
        found = _read(path)
        return found if found is not None and self._path(found.name) == path else None

    def _path(self, name: str) -> Path:
        return self._directory / f"{digests.of(name.encode()).partition(':')[2]}.json"


def _read(path: Path) -> TagRecord | None:
    try:
        with os.fdopen(system.open_published(path), "rb") as file:
            document = json.loads(file.read(_MAX_RECORD))
            used = os.fstat(file.fileno()).st_mtime
        name, digest, is_fetched = document["name"], document["digest"], document.get("fetched", True) is True
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DiskError(f"cannot read {path}: {error.strerror}", hint="check its owner and permissions") from error
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    if not (isinstance(name, str) and isinstance(digest, str) and digests.is_digest(digest)):
        return None
    return TagRecord(name=name, digest=digest, is_fetched=is_fetched, used=used)
