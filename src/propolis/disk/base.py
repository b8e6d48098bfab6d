"""The contract between a file system and the file it lies in: bytes by their place on the disk, whatever is around."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystemOptions:
    """What is free to choose about a file system beside its content."""

    size: int | None = None
    """Bytes of the disk, rounded down to whole blocks; room for growth costs nothing. None: as small as the content."""
    label: str = ""
    """At most 16 bytes."""
    journal: bool = False
    """Whether writes survive a crash; of use only where the disk is written to."""


class DiskWriter(Protocol):
    """A disk being made. What is never written reads as zeros."""

    def write(self, offset: int, views: Sequence[memoryview]) -> None:
        """Put `views`, one behind the other, at byte `offset` of the disk; all are on their way when this returns."""

    def finish(self, size: int, key: str) -> None:
        """The disk has `size` bytes, a multiple of 4096, and nothing more is written; completes what is around them.

        Identifiers in the container are derived from `key`.
        """


class DiskReader(Protocol):
    """A disk in a file, open until `close`."""

    size: int
    """Bytes of the disk, without what is around them."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`.

        Raises:
            DiskError: they lie outside the disk, or the file is damaged.
        """

    def close(self) -> None:
        """Close the file."""
