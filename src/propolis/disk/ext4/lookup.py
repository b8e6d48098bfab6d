"""Paths on a disk, as its reader would follow them: symbolic links inside the root, and never out of it."""

from collections.abc import Iterator

from propolis.disk.ext4.node import shown
from propolis.disk.ext4.reader import Inode, Reader
from propolis.disk.ext4.structs import EXT4_ROOT_INO, S_IFDIR, S_IFLNK
from propolis.errors import DiskError

_MOST_LINKS_FOLLOWED = 40
_MOST_PATH = 4096
_MOST_WALKED = 10_000_000


def resolve(reader: Reader, path: bytes, *, follow: bool = False) -> Inode:
    """The inode at `path`; a symbolic link at its end is followed only if `follow` says so.

    Raises:
        DiskError: nothing is there; or the disk is damaged (DiskDamaged).
    """
    way = [reader.inode(EXT4_ROOT_INO)]
    pending = path.split(b"/")[::-1]
    followed = 0
    while pending:
        name = pending.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            del way[max(1, len(way) - 1) :]
            continue
        number = reader.children(way[-1].number).get(name) if way[-1].kind == S_IFDIR else None
        if number is None:
            raise DiskError(f"there is no {shown(path)} on the disk", hint="`propolis disk ls` shows what there is")
        inode = reader.inode(number)
        if inode.kind == S_IFLNK and (follow or any(part not in (b"", b".") for part in pending)):
            followed += 1
            link = reader.link(inode)
            if followed > _MOST_LINKS_FOLLOWED or len(link) > _MOST_PATH:
                raise DiskError(f"the way to {shown(path)} goes through too many symbolic links")
            pending += link.split(b"/")[::-1]
            if link.startswith(b"/"):
                del way[1:]
            continue
        way.append(inode)
    return way[-1]


def walk(reader: Reader, top: Inode, path: bytes) -> Iterator[tuple[bytes, list[tuple[bytes, Inode]]]]:
    """Every directory from `top`, which is called `path`, downwards, with what is in it in the order of names.

    Raises:
        DiskDamaged: a directory is in itself, or something cannot be read.
    """
    pending = [(path, top.number)]
    seen = {top.number}
    count = 0
    while pending:
        at, number = pending.pop()
        entries = [(name, reader.inode(child)) for name, child in sorted(reader.children(number).items())]
        yield at, entries
        count += len(entries)
        below = [(at.rstrip(b"/") + b"/" + name, inode.number) for name, inode in entries if inode.kind == S_IFDIR]
        if count > _MOST_WALKED or any(child in seen for _, child in below):
            raise reader.damaged()
        seen.update(child for _, child in below)
        pending += reversed(below)
