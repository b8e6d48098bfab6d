"""One inode to be, in memory, while a tree is taken in."""

from collections.abc import Mapping, MutableMapping, Sequence
from functools import lru_cache

from propolis.disk.ext4.structs import S_IFDIR

_S_IFMT = 0o170000
MAX_ID = 0xFFFFFFFF
_NO_XATTRS: Mapping[bytes, bytes] = {}
_NO_DEVICE = (0, 0)
_OLDEST, _NEWEST = -(1 << 31), (1 << 34) - (1 << 31) - 1

Extent = tuple[int, int, int]
"""Logical block, physical block, number of blocks."""


class Node:
    """An inode: attributes, and children, target, device or extents as its type has them."""

    __slots__ = (
        "children",
        "device",
        "extents",
        "gid",
        "ino",
        "link",
        "links",
        "mode",
        "mtime_ns",
        "packed",
        "parent",
        "size",
        "uid",
        "whiteout",
        "xattrs",
    )  # fmt: skip

    def __init__(self, mode: int, uid: int = 0, gid: int = 0, mtime_ns: int = 0) -> None:
        """Make one; `mode` includes the file type."""
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_ns = mtime_ns
        self.size = 0
        self.links = 0
        self.ino = 0
        self.link = b""
        self.device = _NO_DEVICE
        self.extents: Sequence[Extent] = ()
        self.xattrs = _NO_XATTRS
        self.children: MutableMapping[bytes, Node] | None = {} if mode & _S_IFMT == S_IFDIR else None
        self.parent: Node | None = None
        self.packed = 0
        """Where `Packing` has what is in the directory; 0 when `children` has it."""
        self.whiteout = False

    @property
    def kind(self) -> int:
        """The file type bits of `mode`."""
        return self.mode & _S_IFMT

    @property
    def blocks(self) -> int:
        """Blocks of content."""
        return sum(count for _, _, count in self.extents)


@lru_cache(maxsize=4096)
def encode_time(nanoseconds: int) -> tuple[int, int]:
    """The two 32-bit fields of a time: seconds modulo 2^32, and nanoseconds with two more bits of seconds.

    Clamped to what 34 bits hold: 1901 to 2446.
    """
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    if not _OLDEST <= seconds <= _NEWEST:
        seconds, fraction = (_OLDEST if seconds < 0 else _NEWEST), 0
    low = seconds & 0xFFFFFFFF
    signed = low - (1 << 32) if low >= 1 << 31 else low
    return low, (seconds - signed) >> 32 & 3 | fraction << 2


def decode_time(low: int, extra: int) -> int:
    """The time in nanoseconds that the two fields hold."""
    seconds = low - (1 << 32) if low >= 1 << 31 else low
    return (seconds + ((extra & 3) << 32)) * 1_000_000_000 + (extra >> 2)


def is_device(major: int, minor: int) -> bool:
    """Whether these are numbers of a device as Linux has them: 12 bits and 20."""
    return 0 <= major < 1 << 12 and 0 <= minor < 1 << 20


def encode_device(major: int, minor: int) -> bytes:
    """i_block of a device: the old form where it fits, else the new one (fs/ext4/inode.c, new_encode_dev)."""
    if major < 256 and minor < 256:
        return (major << 8 | minor).to_bytes(4, "little")
    return bytes(4) + (minor & 0xFF | major << 8 | (minor & ~0xFF) << 12).to_bytes(4, "little")


def shown(path: bytes) -> str:
    """A path for a message: short, printable."""
    text = path.decode(errors="backslashreplace")
    return f"{text[:120]}..." if len(text) > 123 else text or "/"
