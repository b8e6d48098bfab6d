"""What a tag named when it was last asked for: a small record for each full name, in a file of its own.

`<blobs>/tags/<sha256 of the name>.json`, whole or not there. One that is damaged counts as absent. Knows nothing of
registries.
"""

import json
from pathlib import Path

from propolis.errors import DiskError
from propolis.host.files import write_atomically
from propolis.image import digest as digests

_MAX_RECORD = 64 << 10


class TagRecords:
    """The records below `directory`, which need not exist yet. For any number of threads and processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def digest(self, name: str) -> str | None:
        """The digest of the manifest or index that `name` named; None where nothing is known.

        Raises:
            DiskError: the host does not let it be read.
        """
        path = self._path(name)
        try:
            with path.open("rb") as file:
                document = json.loads(file.read(_MAX_RECORD))
            kept, digest = document["name"], document["digest"]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DiskError(f"cannot read {path}: {error.strerror}", hint="check its owner and permissions") from error
        except (ValueError, RecursionError, KeyError, TypeError):
            return None
        return digest if kept == name and isinstance(digest, str) and digests.is_digest(digest) else None

    def keep(self, name: str, digest: str) -> None:
        """From now on `name` names `digest`.

        Raises:
            StorageFull, DiskError: the directory cannot be written to.
        """
        if self.digest(name) != digest:
            write_atomically(self._path(name), json.dumps({"name": name, "digest": digest}).encode())

    def _path(self, name: str) -> Path:
        return self._directory / f"{digests.of(name.encode()).partition(':')[2]}.json"
