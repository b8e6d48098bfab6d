"""A layer's entries become a tree of inodes, with the semantics of unpacking it onto an empty directory.

Later entries replace earlier ones, missing parents are like those of the layers below or made, links stay inside the
root; whiteouts become what overlayfs reads: a character device 0:0, and `trusted.overlay.opaque`. Of blocks it knows
only which are free. Where there are many entries, directories that the archive has left are packed away.
"""

from collections.abc import Iterator
from typing import Protocol

from propolis.disk.ext4.node import MAX_ID, Node, is_device, shown
from propolis.disk.ext4.packing import Packing
from propolis.disk.ext4.plan import Run
from propolis.disk.ext4.structs import (
    EXT4_LINK_MAX,
    EXT4_NAME_LEN,
    MAX_FILE,
    MAX_SYMLINK,
    S_IFBLK,
    S_IFCHR,
    S_IFDIR,
    S_IFIFO,
    S_IFLNK,
    S_IFREG,
)
from propolis.errors import ImageInvalid, LayerUnsupported
from propolis.tree import Entry, Kind

OPAQUE = b"trusted.overlay.opaque"
ORIGIN = b"trusted.overlay.origin"
"""Empty: there may be whiteouts in the directory, so overlayfs has to look even if it lies in one layer alone."""
_OVERLAY = (b"trusted.overlay.", b"user.overlay.")
_MOST_LINKS_FOLLOWED = 40
MOST_OBJECTS = 1 << 16
"""Entries that are kept as objects before directories are packed away."""
_FILE, _SYMLINK, _HARDLINK = Kind.FILE, Kind.SYMLINK, Kind.HARDLINK
_WHITEOUT, _OPAQUE_MARK = Kind.WHITEOUT, Kind.OPAQUE
_TYPES = (S_IFREG, S_IFDIR, S_IFLNK, 0, S_IFCHR, S_IFBLK, S_IFIFO)
"""By `Kind`: an enumeration's members are slow keys."""


class WrongAssumption(Exception):
    """Layers below have something else where they were taken to have a directory: the layer has to be taken in anew."""


class LowerLayers(Protocol):
    """What a layer can ask of those below it."""

    def node(self, path: bytes) -> Node | None:
        """A new inode like the one at `path`, without its content; None where there is none."""

    def content(self, path: bytes) -> Iterator[bytes | int]:
        """The content of the file at `path`: bytes, and lengths of holes."""

    def top_names(self) -> set[bytes]:
        """Every name that any of them has in its root."""


class Tree:
    """The tree below `base`, taken in entry by entry. `what` names the layer in errors.

    With `assumes`, what the layers below have on the way to an entry is taken to be directories, and they are asked
    when all entries are there: they may not be ready before.
    """

    def __init__(self, base: Node, what: str, lower: LowerLayers, *, assumes: bool = False) -> None:
        self._base = base
        self._what = what
        self._lower = lower
        self._assumes = assumes
        self._assumed: dict[bytes, Node | None] = {}
        """Directories that layers below may have, by path; None where an entry has described it meanwhile."""
        self._directories = {b"": base} | {
            name: child for name, child in (base.children or {}).items() if child.children is not None
        }
        """Every directory that is not packed away, by its path, which goes through no symbolic link."""
        self.packing = Packing(self._came_back)
        self._never_packed = set(map(id, self._directories.values()))
        self._objects = self._opened = 0
        """Entries that are inodes in memory, and how many of them had been packed away."""
        self._most_objects = MOST_OBJECTS
        self._late_links: dict[bytes, bytes] = {}
        """Hard links whose target is not there yet, to the path of that."""
        self.freed: list[Run] = []
        """Blocks of inodes that nothing refers to any more."""
        self.copied: dict[bytes, Node] = {}
        """Files of lower layers that links here are to, by path; their content is still to be copied."""

    def add(self, entry: Entry) -> Node | None:
        """Put one entry in its place; returns its inode if it is a FILE, whose content follows.

        Raises:
            ImageInvalid: it cannot be where it says; the message names layer and entry.
            LayerUnsupported: ext4 cannot hold it.
        """
        kind = entry.kind
        self._objects += 1
        if self._objects > self._most_objects:
            self._pack(entry.path)
        if kind is _WHITEOUT:
            self._whiteout(entry)
            return None
        if kind is _OPAQUE_MARK:
            directory, _ = self._directory(entry.path, entry)
            directory.xattrs = {**directory.xattrs, OPAQUE: b"y"}
            return None
        if self._late_links:
            self._late_links.pop(entry.path, None)
        if kind is _HARDLINK:
            self._hard_link(entry)
            return None
        node = self._node(entry)
        if not entry.path:
            self._update(self._base, node, entry)
            return None
        parent, name, path = self._parent(entry)
        assert parent.children is not None
        before = parent.children.get(name)
        if before is None and node.children is None:
            parent.children[name] = node
            node.links = 1
        elif before is not None and before.children is not None and node.children is not None:
            self._update(before, node, entry)
            if path in self._assumed:
                self._assumed[path] = None
        else:
            self._place(parent, name, node, path)
        return node if kind is _FILE else None

    def settle(self) -> None:
        """Ask the layers below about what was assumed of them; from now on nothing is.

        Raises:
            WrongAssumption: there is something else than a directory.
        """
        self._assumes = False
        assumed, self._assumed = self._assumed, {}
        for path, node in assumed.items():
            found = self._lower.node(path)
            if found is not None and found.kind != S_IFDIR:
                raise WrongAssumption
            if found is not None and node is not None:
                node.mode, node.uid, node.gid, node.mtime_ns = found.mode, found.uid, found.gid, found.mtime_ns
                node.xattrs = {**found.xattrs, **node.xattrs}

    def finish(self) -> None:
        """Make the links whose target came after them, and an opaque root.

        Raises:
            ImageInvalid: a target does not exist.
            WrongAssumption: as `settle`.
        """
        self.settle()
        late, self._late_links = self._late_links, {}
        for path in list(late):
            # a link to another of these waits for that; links in a circle have no target at all
            waiting: list[Entry] = []
            while path in late:
                waiting.append(Entry(_HARDLINK, path, link=late.pop(path)))
                path = waiting[-1].link  # noqa: PLW2901 - the way from link to link
            while waiting:
                entry = waiting.pop()
                self._link(entry, self._late_target(entry))
        if OPAQUE in self._base.xattrs:
            self._hide_all()

    def _pack(self, path: bytes) -> None:
        """Put away every directory but those on the way to `path`, which come next, and most of those if large."""
        self.settle()  # while they are here
        above = path.rpartition(b"/")[0].split(b"/")
        way = {b"/".join(above[:depth]) for depth in range(len(above) + 1)}
        self._objects = 0
        for at in sorted(self._directories, key=_depth, reverse=True):
            directory = self._directories[at]
            if at in way or id(directory) in self._never_packed:
                self._objects += self.packing.thin(directory)
            else:
                self.packing.pack(directory)
                del self._directories[at]
        if max(self._objects, self._opened) > self._most_objects // 2:
            self._most_objects *= 4  # an archive in such an order that putting away is in vain
        self._opened = 0

    def _came_back(self, count: int) -> None:
        self._objects += count
        self._opened += count

    def _open(self, directory: Node, path: bytes) -> None:
        """See that what is in `directory` is in memory."""
        if directory.packed:
            self._came_back(self.packing.open(directory))
        self._directories[path] = directory

    def _hide_all(self) -> None:
        """What an opaque root means, said of each name: overlayfs merges the roots whatever their attributes are."""
        children = self._base.children or {}
        for name in sorted(self._lower.top_names() | children.keys()):
            self._whiteout(Entry(Kind.WHITEOUT, name))

    def _late_target(self, entry: Entry) -> Node:
        """What `entry` links to; a file of a lower layer becomes one of this layer, as link(2) on overlayfs does."""
        parent, name, path = self._parent(entry._replace(path=entry.link))
        assert parent.children is not None
        target = parent.children.get(name)
        if target is None and not self._is_hidden(path):
            target = self._lower.node(path)
            if target is not None and target.kind != S_IFDIR:
                self._place(parent, name, target, path)
                self.copied[path] = target
        if target is None or target.whiteout:
            raise ImageInvalid(
                f"{self._what}: {shown(entry.path)} is a hard link to {shown(entry.link)}, which does not exist",
                hint="the image is incomplete; build it again",
            )
        return target

    def _node(self, entry: Entry) -> Node:
        kind, path, mode, uid, gid, mtime_ns, size, link, device, xattrs = entry
        if not (0 <= uid <= MAX_ID and 0 <= gid <= MAX_ID):
            raise LayerUnsupported(f"{self._what}: {shown(path)} has an owner that Linux does not know")
        node = Node(_TYPES[kind] | mode & 0o7777, uid, gid, mtime_ns)
        if xattrs:
            # what steers overlayfs comes from whiteouts alone, never from the image's own attributes
            node.xattrs = {name: value for name, value in xattrs.items() if not name.startswith(_OVERLAY)}
        if kind is _FILE:
            if size > MAX_FILE:
                raise LayerUnsupported(f"{self._what}: {shown(path)} is larger than {MAX_FILE >> 40} TiB")
            node.size = size
        elif kind is _SYMLINK:
            if not 0 < len(link) <= MAX_SYMLINK:
                raise ImageInvalid(f"{self._what}: the target of the symbolic link {shown(path)} is empty or too long")
            node.mode, node.link, node.size = S_IFLNK | 0o777, link, len(link)
        elif kind is not Kind.DIRECTORY:
            if not is_device(*device):
                raise LayerUnsupported(f"{self._what}: {shown(path)} has a device number that Linux does not know")
            node.device = device
        return node

    def _update(self, directory: Node, node: Node, entry: Entry) -> None:
        ours = {name: value for name, value in directory.xattrs.items() if name in (OPAQUE, ORIGIN)}
        directory.mode, directory.uid, directory.gid = node.mode, node.uid, node.gid
        directory.mtime_ns, directory.xattrs = node.mtime_ns, {**node.xattrs, **ours}
        if node.kind != S_IFDIR:
            raise ImageInvalid(f"{self._what}: the entry for the root ({shown(entry.path)}) is not a directory")

    def _whiteout(self, entry: Entry) -> None:
        parent, name, path = self._parent(entry)
        assert parent.children is not None
        there = parent.children.get(name)
        if there is None:
            node = Node(S_IFCHR)
            node.whiteout = True
            parent.xattrs = {**parent.xattrs, ORIGIN: b""}
            self._place(parent, name, node, path)
        elif there.kind == S_IFDIR:
            # deleted below and made anew here: nothing from below shows through
            there.xattrs = {**there.xattrs, OPAQUE: b"y"}

    def _hard_link(self, entry: Entry) -> None:
        target = self._find(entry.link)
        if target is None or target.whiteout:
            self._late_links[entry.path] = entry.link
        else:
            self._link(entry, target)

    def _link(self, entry: Entry, target: Node) -> None:
        if target.kind == S_IFDIR:
            raise ImageInvalid(f"{self._what}: {shown(entry.path)} is a hard link to a directory, {shown(entry.link)}")
        if target.links >= EXT4_LINK_MAX:
            raise LayerUnsupported(f"{self._what}: {shown(entry.link)} has more than {EXT4_LINK_MAX} hard links")
        parent, name, path = self._parent(entry)
        assert parent.children is not None
        if parent.children.get(name) is not target:
            self._place(parent, name, target, path)

    def _place(self, parent: Node, name: bytes, node: Node, path: bytes) -> None:
        """Make `node` the child `name`, in place of whatever is there."""
        assert parent.children is not None
        before = parent.children.pop(name, None)
        node.links += 1
        if before is not None:
            if node.kind == S_IFDIR:
                # what was here had hidden the directory below, and this is a new one
                node.xattrs = {**node.xattrs, OPAQUE: b"y"}
            self._drop(before, path)
        parent.children[name] = node
        if node.kind == S_IFDIR:
            node.parent = parent
            self._directories[path] = node

    def _drop(self, node: Node, path: bytes) -> None:
        """Take away one reference to `node`, and to all below it if it was the last."""
        pending = [(node, path)]
        while pending:
            gone, at = pending.pop()
            gone.links -= 1
            if gone.links == 0:
                self.freed += [(physical, count) for _, physical, count in gone.extents]
                if gone.children is not None:
                    self._open(gone, at)
                    del self._directories[at]
                    pending += [(child, b"%b/%b" % (at, name)) for name, child in gone.children.items()]

    def _parent(self, entry: Entry) -> tuple[Node, bytes, bytes]:
        """Where an entry belongs: directory, name, and the path that they have without symbolic links."""
        path = entry.path
        above, _, name = path.rpartition(b"/")
        if not name or len(name) > EXT4_NAME_LEN or b"\0" in path:
            raise ImageInvalid(
                f"{self._what}: the name {shown(entry.path)} is empty, holds a NUL, or exceeds {EXT4_NAME_LEN} bytes"
            )
        directory = self._directories.get(above)
        if directory is not None:
            return directory, name, path
        directory, above = self._directory(above, entry)
        return directory, name, b"%b/%b" % (above, name) if above else name

    def _directory(self, path: bytes, entry: Entry) -> tuple[Node, bytes]:
        """The directory at `path`, and its path without symbolic links: they are followed inside the root.

        Those that are missing are made.
        """
        way: list[bytes] = []
        followed = 0
        pending = path.split(b"/")[::-1]
        while pending:
            name = pending.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                del way[-1:]
                continue
            child = self._step(way, name, entry)
            if child.kind == S_IFDIR:
                way.append(name)
                continue
            followed += 1
            if followed > _MOST_LINKS_FOLLOWED:
                raise ImageInvalid(f"{self._what}: the way to {shown(entry.path)} goes through too many symbolic links")
            pending += child.link.split(b"/")[::-1]
            if child.link.startswith(b"/"):
                way = []
        found = b"/".join(way)
        return self._directories[found], found

    def _step(self, way: list[bytes], name: bytes, entry: Entry) -> Node:
        """What `name` is in the directory at `way`: a directory, made if need be, or a symbolic link."""
        if len(name) > EXT4_NAME_LEN:
            raise ImageInvalid(
                f"{self._what}: the way to {shown(entry.path)} has a name longer than {EXT4_NAME_LEN} bytes"
            )
        path = b"/".join([*way, name])
        if path in self._directories:
            return self._directories[path]
        node = self._directories[b"/".join(way)]
        assert node.children is not None
        child = node.children.get(name)
        if child is not None and child.children is not None:
            self._open(child, path)
            return child
        if child is None and not self._is_hidden(path):
            child = self._below(path)
            if child is not None and child.kind == S_IFDIR:
                self._place(node, name, child, path)
        if child is None or child.whiteout:
            child = Node(S_IFDIR | 0o755)
            self._place(node, name, child, path)
        if child.kind not in (S_IFDIR, S_IFLNK):
            raise ImageInvalid(f"{self._what}: {shown(entry.path)} lies below {shown(name)}, which is not a directory")
        return child

    def _below(self, path: bytes) -> Node | None:
        """What the layers below have at `path`, or are taken to have."""
        if not self._assumes:
            return self._lower.node(path)
        self._assumed[path] = node = Node(S_IFDIR | 0o755)
        return node

    def _is_hidden(self, path: bytes) -> bool:
        """Whether nothing of the layers below shows at `path`, whose directory is one of this layer."""
        node = self._directories[path.rpartition(b"/")[0]]
        while OPAQUE not in node.xattrs:
            if node is self._base or node.parent is None:
                return False
            node = node.parent
        return True

    def _find(self, path: bytes) -> Node | None:
        """What lies at `path`, not followed if it is a symbolic link itself; None when there is nothing."""
        above, _, name = path.rpartition(b"/")
        directory = self._directories.get(above) or self._unpacked(above)
        return None if directory is None else (directory.children or {}).get(name)

    def _unpacked(self, path: bytes) -> Node | None:
        """The directory at `path`, which goes through no symbolic link, if it was packed away."""
        names = path.split(b"/")
        for depth in range(1, len(names) + 1):
            at = b"/".join(names[:depth])
            if at in self._directories:
                continue
            directory = self._directories[b"/".join(names[: depth - 1])]
            child = (directory.children or {}).get(names[depth - 1])
            if child is None or child.children is None:
                return None
            self._open(child, at)
        return self._directories[path]


def _depth(path: bytes) -> int:
    return path.count(b"/")
