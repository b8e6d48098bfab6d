"""What lies in the content store, file by file: for those who count it and collect it.

Knows the names of its files and nothing of how they are written, or of what blobs hold.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from propolis.host.files import allocated
from propolis.image import digest as digests
from propolis.image import partial

_MAX_RECORD = 16 << 20
"""Those of signatures are the largest."""


class BlobState(StrEnum):
    """What there is of a blob, as its file's name begins."""

    WHOLE = ""
    PARTIAL = partial.PREFIX
    DAMAGED = "damaged-"


_NAME = re.compile(
    rf"(?P<prefix>{re.escape(BlobState.PARTIAL)}|{BlobState.DAMAGED})?(?P<value>[0-9a-f]{{64,128}})(-[0-9a-f]{{12}})?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlob:
    """One file of the store."""

    path: Path
    digest: str
    size: int
    """Bytes as they are taken from the host."""
    made: float
    """When it was last written to, in seconds since the epoch."""
    state: BlobState


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """A small file that says something of a blob or a layer, and can be made again."""

    path: Path
    digest: str
    """Of the blob, or the layer's diff_id; empty where the record is damaged."""
    size: int
    """Bytes as they are taken from the host."""
    made: float
    """When it was last written to, in seconds since the epoch."""


def stored_blobs(directory: Path) -> Iterator[StoredBlob]:
    """The blobs below a store's `directory`, also damaged and begun ones; what is removed meanwhile is left out."""
    for algorithm in digests.ALGORITHMS:
        for path in sorted((directory / algorithm).glob("*")):
            found = _NAME.fullmatch(path.name)
            if found is None or not digests.is_digest(digest := f"{algorithm}:{found['value']}"):
                continue
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                state = BlobState(found["prefix"] or "")
                yield StoredBlob(path=path, digest=digest, size=allocated(path), made=status.st_mtime, state=state)


def stored_records(*directories: Path) -> Iterator[StoredRecord]:
    """The records in `directories`; what is removed meanwhile is left out."""
    for directory in directories:
        for path in sorted(directory.glob("*.json")):
            with contextlib.suppress(FileNotFoundError):
                size, made = allocated(path), path.stat().st_mtime
                yield StoredRecord(path=path, digest=_digest_in(path), size=size, made=made)


def _digest_in(record: Path) -> str:
    try:
        with record.open("rb") as file:
            found = json.loads(file.read(_MAX_RECORD))["digest"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""
