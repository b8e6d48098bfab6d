"""What was asked of compressed archives to find images in them, kept so that it can be answered without uncompressing.

`<blobs>/archives/<sha256 of the archive's path>.json`, whole or not there; its time of change is that of the last use.
One that is damaged, or of another state of the file, counts as absent. Knows nothing of what the members are.
"""

import base64
import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from propolis.errors import DiskError
from propolis.host.files import write_atomically
from propolis.image import digest as digests
from propolis.image.file_state import FileState, record_name

MAX_CONTENT = 1 << 20
"""Bytes of members' beginnings in one record."""
_MOST_RECORDS = 64
_MAX_RECORD = 16 << 20
_USE = 60.0
"""Seconds within which a use is not noted once more."""


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in an archive."""

    size: int
    head: bytes = b""
    """Its first bytes, as many as are known; of documents all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of an archive."""

    members: Mapping[str, Member | None]
    """By name; None for one that is not there."""
    begins_like_image: bool
    """Whether it was found to begin as the archives of images do."""


class ArchiveRecords:
    """The records below `directory`, which need not exist yet. For any number of threads and processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, path: Path, state: FileState) -> Known | None:
        """What is known of the archive at `path`, which is in `state`; None when nothing is."""
        try:
            with self._record(path).open("rb") as file:
                document = json.loads(file.read(_MAX_RECORD))
            if document.pop("checksum") != _checksum(document) or document["file"] != state:
                return None
            members = {name: None if kept is None else _member(kept) for name, kept in document["members"].items()}
            return Known(members=members, begins_like_image=document["begins_like_image"])
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return None

    def keep(self, path: Path, state: FileState, digest: str, known: Known) -> None:
        """From now on that is known of it; `digest` is of the image that was found there, without which it goes.

        Where it cannot be kept, it is not.
        """
        document: dict[str, Any] = {
            "file": state,
            "digest": digest,
            "begins_like_image": known.begins_like_image,
            "members": {name: None if member is None else _kept(member) for name, member in known.members.items()},
        }
        document["checksum"] = _checksum(document)
        with contextlib.suppress(OSError, DiskError):
            write_atomically(self._record(path), json.dumps(document).encode())
            self._forget_oldest()

    def touch(self, path: Path) -> None:
        """Note that what is known of the archive is used; where that cannot be noted, it is not."""
        record = self._record(path)
        with contextlib.suppress(OSError):
            if time.time() - record.stat().st_mtime > _USE:
                os.utime(record)

    def _forget_oldest(self) -> None:
        used = {}
        for record in self._directory.glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                used[record] = record.stat().st_mtime
        for record in sorted(used, key=used.__getitem__)[:-_MOST_RECORDS]:
            record.unlink(missing_ok=True)

    def _record(self, path: Path) -> Path:
        return self._directory / record_name(path)


def _checksum(document: Mapping[str, Any]) -> str:
    return digests.of(json.dumps(document, sort_keys=True).encode())


def _kept(member: Member) -> dict[str, Any]:
    return {"size": member.size, "head": base64.b64encode(member.head).decode()}


def _member(kept: Mapping[str, Any]) -> Member:
    return Member(kept["size"], base64.b64decode(kept["head"]))
