"""What passes from an image's layer to a disk: file-tree entries, pushed into a sink in the archive's order.

Vocabulary only. It knows neither archives nor file systems. Paths and names are bytes, as the kernel has them.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple, Protocol


class Kind(IntEnum):
    """What an entry is. WHITEOUT and OPAQUE carry layer semantics, not a file type of the archive."""

    FILE = 0
    DIRECTORY = 1
    SYMLINK = 2
    HARDLINK = 3
    CHARACTER = 4
    BLOCK = 5
    FIFO = 6
    WHITEOUT = 7
    """`path` of the layers below is deleted."""
    OPAQUE = 8
    """Everything below the directory `path` in the layers below is hidden."""


class Entry(NamedTuple):
    """One entry of a tree.

    `path` is relative to the root, normalised (no leading or trailing slash, no `.`, `..` or empty component); the
    root itself is `b""`. A HARDLINK's `link` is a path of the same form; a SYMLINK's is whatever the image says.
    """

    kind: Kind
    path: bytes
    mode: int = 0o755
    """Permission bits, at most 0o7777."""
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    """Nanoseconds since 1970; may be negative."""
    size: int = 0
    """Bytes of content of a FILE, holes included; 0 for all others."""
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    """Major and minor number of a CHARACTER or BLOCK device."""
    xattrs: Mapping[bytes, bytes] = {}
    """Full names (`security.capability`) to values."""


class TreeSink(Protocol):
    """Takes a tree, one entry after the other, in one pass.

    After a FILE entry come calls of `data` and `hole` that together cover exactly `entry.size` bytes, in order. The
    caller may reuse the memory behind a view only after the next return of `commit`.
    """

    def entry(self, entry: Entry) -> None:
        """Take the next entry. A later entry of the same path replaces the earlier one."""

    def data(self, view: memoryview) -> None:
        """Take the next bytes of the last FILE entry."""

    def hole(self, length: int) -> None:
        """The next `length` bytes of the last FILE entry are zeros that need no storage."""

    def commit(self) -> None:
        """Every view given so far has been written or copied when this returns."""
