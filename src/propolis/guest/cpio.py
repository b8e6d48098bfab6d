"""Archives that the kernel unpacks as its first root file system: cpio, format "newc".

Pure: members in, bytes out, the same members always the same bytes. Knows nothing of what a guest needs. Follows
Documentation/driver-api/early-userspace/buffer-format.rst of the kernel: each header and each content starts at a
multiple of four bytes, archives may follow each other, and of two members with one name the later one wins.
"""

import stat
from collections.abc import Iterable
from typing import NamedTuple

from propolis.errors import InvalidArgument

ALIGNMENT = 4
_MAGIC = b"070701"
_TRAILER = b"TRAILER!!!"
_FIELD_LIMIT = 1 << 32
_PATH_MAX = 4096


class Member(NamedTuple):
    """One file of an archive; always owned by root, always of the year 1970."""

    path: str
    """Relative to the root, without a leading slash."""
    mode: int
    """Type and permission bits, as in `stat.st_mode`."""
    data: bytes = b""
    """Content of a file, target of a symbolic link."""
    device: tuple[int, int] = (0, 0)


def directory(path: str, mode: int = 0o755) -> Member:
    """A directory. Its parent must come before it."""
    return Member(path, stat.S_IFDIR | mode)


def file(path: str, data: bytes, mode: int = 0o644) -> Member:
    """A regular file."""
    return Member(path, stat.S_IFREG | mode, data)


def symlink(path: str, target: str) -> Member:
    """A symbolic link."""
    return Member(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int, mode: int = 0o600) -> Member:
    """A character device node."""
    return Member(path, stat.S_IFCHR | mode, device=(major, minor))


def archive(members: Iterable[Member]) -> bytes:
    """Return the archive of `members`, in their order, trailer included; its length is a multiple of four.

    Raises:
        InvalidArgument: a path is empty, absolute or too long, or a content is 4 GiB or more.
    """
    pieces: list[bytes] = []
    for inode, member in enumerate(members, start=1):
        path = member.path.encode()
        if not path or path.startswith(b"/") or b"\0" in path or len(path) >= _PATH_MAX:
            raise InvalidArgument(f"{member.path!r} cannot be the path of an initramfs member")
        if len(member.data) >= _FIELD_LIMIT:
            raise InvalidArgument(f"{member.path} is too large for an initramfs")
        pieces += [_header(path, inode, member.mode, len(member.data), member.device), member.data]
        pieces.append(padding(len(member.data)))
    pieces.append(_header(_TRAILER, 0, 0, 0, (0, 0)))
    return b"".join(pieces)


def padding(length: int) -> bytes:
    """The zeros that bring something of `length` bytes to a multiple of four."""
    return bytes(-length % ALIGNMENT)


def _header(path: bytes, inode: int, mode: int, size: int, device: tuple[int, int]) -> bytes:
    links = 2 if stat.S_ISDIR(mode) else 1
    # inode, mode, uid, gid, links, mtime, size, major, minor (of the file's device), rdev major and minor, name, check
    fields = (inode, mode, 0, 0, links, 0, size, 0, 0, *device, len(path) + 1, 0)
    header = _MAGIC + b"".join(b"%08X" % field for field in fields) + path + b"\0"
    return header + padding(len(header))
