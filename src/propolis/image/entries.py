"""What a member of a layer's tar means: an entry of a tree, a whiteout, or nothing; what is hostile is refused.

Pure. Follows the OCI image specification's layer.md (whiteouts) and, for names, what containerd makes of them.
"""

from collections.abc import Mapping

from propolis.image import tar
from propolis.tree import Entry, Kind

_MAX_NAME = 255
_MAX_PATH = 4095
"""Linux's NAME_MAX, and PATH_MAX without its final NUL."""
_MAX_ID = 0xFFFFFFFE
"""The greatest owner; one more means "unchanged" to chown(2)."""
_MAX_MAJOR, _MAX_MINOR = 0xFFF, 0xFFFFF

_WHITEOUT = b".wh."
_META = b".wh..wh."
_OPAQUE = b".wh..wh..opq"
_OVERLAY_XATTR = b"trusted.overlay."

_FILE, _SYMLINK, _HARDLINK = Kind.FILE, Kind.SYMLINK, Kind.HARDLINK
_KINDS = {
    tar.DIRECTORY: Kind.DIRECTORY,
    tar.SYMLINK: Kind.SYMLINK,
    tar.HARDLINK: Kind.HARDLINK,
    tar.CHARACTER: Kind.CHARACTER,
    tar.BLOCK_DEVICE: Kind.BLOCK,
    tar.FIFO: Kind.FIFO,
} | dict.fromkeys(tar.REGULAR, Kind.FILE)


def entry_of(member: tar.Member, *, marks: bool = True) -> Entry | None:
    """What `member` means in a layer; None when nothing.

    Without `marks` it is no layer: whiteouts are names like any other, and the root may be a file.

    Raises:
        ValueError: it is hostile, or Linux cannot have it; the message is a predicate that follows the member's name.
    """
    name, typeflag, mode, uid, gid, mtime_ns, size, link, device, xattrs, _ = member
    kind = _KINDS.get(typeflag)
    if kind is None:
        raise ValueError(f"is of unknown type {typeflag!r}")
    path = clean(name)
    if kind is _FILE and name[-1:] == b"/":
        kind = Kind.DIRECTORY  # how tar marked directories before it had a type for them
    if kind is not _FILE:
        size = 0
    if marks and _WHITEOUT in path:
        special = _whiteout(path)
        if special is not None:
            return special if special.kind is not _FILE else None
    if marks and not path and kind is not Kind.DIRECTORY:
        raise ValueError("stands for the root, which is a directory")
    if uid > _MAX_ID or gid > _MAX_ID:
        raise ValueError("has an owner that Linux does not know")
    if device is not tar.NO_DEVICE and not _is_device(*device):
        raise ValueError("has a device number that Linux does not know")
    link = _link(kind, path, link) if kind is _SYMLINK or kind is _HARDLINK else b""
    kept = _kept(xattrs) if xattrs else xattrs
    # half the time of the named tuple's own constructor
    return tuple.__new__(Entry, (kind, path, mode, uid, gid, mtime_ns, size, link, device, kept))


def _is_device(major: int, minor: int) -> bool:
    return 0 <= major <= _MAX_MAJOR and 0 <= minor <= _MAX_MINOR


def clean(name: bytes) -> bytes:
    """A member's name as a path below the root: no empty, `.` or `..` component.

    Raises:
        ValueError: it climbs above the root, or Linux cannot have such a name.
    """
    path = (name[2:] if name[:2] == b"./" else name).strip(b"/")
    if path[:1] == b"." or b"/." in path or b"//" in path:
        parts: list[bytes] = []
        for part in path.split(b"/"):
            if part == b"..":
                if not parts:
                    raise ValueError("climbs above the root")
                parts.pop()
            elif part not in (b"", b"."):
                parts.append(part)
        path = b"/".join(parts)
    if len(path) > _MAX_NAME and (len(path) > _MAX_PATH or max(map(len, path.split(b"/"))) > _MAX_NAME):
        raise ValueError(f"has a name of more than {_MAX_NAME} bytes or a path of more than {_MAX_PATH}")
    return path


def _whiteout(path: bytes) -> Entry | None:
    """The entry for a path with a `.wh.` name in it; a FILE for what is to be ignored, None when it is ordinary."""
    parent, _, name = path.rpartition(b"/")
    if path.startswith(_META) and parent:
        return Entry(Kind.FILE, path)  # inside a directory of aufs's own
    if any(part.startswith(_WHITEOUT) for part in parent.split(b"/")):
        raise ValueError("lies below a whiteout")
    if not name.startswith(_WHITEOUT):
        return None
    if name == _OPAQUE:
        return Entry(Kind.OPAQUE, parent)
    if name.startswith(_META):
        return Entry(Kind.FILE, path)
    hidden = name[len(_WHITEOUT) :]
    if hidden in (b"", b".", b".."):
        raise ValueError("is a whiteout of nothing")
    return Entry(Kind.WHITEOUT, parent + b"/" + hidden if parent else hidden)


def _link(kind: Kind, path: bytes, link: bytes) -> bytes:
    if not link or len(link) > _MAX_PATH:
        raise ValueError("links to nothing" if not link else f"links to a path of more than {_MAX_PATH} bytes")
    if kind is Kind.SYMLINK:
        return link
    try:
        target = clean(link)
    except ValueError as error:
        raise ValueError(f"is a link to {tar.shown(link)}, which {error}") from None
    if not target or target == path:
        raise ValueError("is a link to itself or to the root")
    return target


def _kept(xattrs: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """All but overlayfs's own, which would make the guest's overlayfs take orders from the image."""
    return {name: value for name, value in xattrs.items() if not name.startswith(_OVERLAY_XATTR)}
