"""A tree becomes files of this host below one directory, and nowhere else, whatever the tree says.

For trees from guests, which are not trusted: no link is followed on the way to an entry, and nothing that gives rights
(set-id bits, owners, devices, attributes) is made unless the caller asks for it. Where directories can be opened, which
leaves out Windows.
"""

import sys

assert sys.platform != "win32"

import contextlib
import os
import stat
from pathlib import Path

from propolis.errors import InvalidArgument
from propolis.tree import Entry, Kind

MOST_LEVELS = 200
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NODES = {Kind.FIFO: stat.S_IFIFO, Kind.CHARACTER: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK}


class DirectorySink:
    """A `TreeSink` that fills `directory`, which must be empty. `close` it; until then it is not complete.

    Args:
        directory: an existing directory; the tree's root becomes what is in it.
        preserve: keep owners, all mode bits, devices and attributes; needs the rights for it.

    Raises from all methods:
        OSError: the host refused.
        InvalidArgument: a path that cannot be made here.
    """

    def __init__(self, directory: Path, *, preserve: bool = False) -> None:
        self._directory = directory
        self._preserve = preserve
        self._open: list[tuple[bytes, int]] = []
        self._file = -1
        self._entry: Entry | None = None
        self._length = 0
        self._directories: list[Entry] = []
        self.left_out = 0
        """Entries that were not made because they need `preserve`."""

    def entry(self, entry: Entry) -> None:
        """See `TreeSink.entry`."""
        self._finish_file()
        if entry.kind is Kind.DIRECTORY:
            if entry.path:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self._name(entry.path), 0o700, dir_fd=self._parent(entry.path))
            self._directories.append(entry)
        elif entry.kind is Kind.FILE:
            self._file = os.open(self._name(entry.path), _CREATE, 0o600, dir_fd=self._parent(entry.path))
            self._entry, self._length = entry, 0
        elif entry.kind is Kind.SYMLINK:
            os.symlink(entry.link, self._name(entry.path), dir_fd=self._parent(entry.path))
            self._attributes(entry)
        elif entry.kind is Kind.HARDLINK:
            self._link(entry)
        else:
            self._node(entry)

    def data(self, view: memoryview) -> None:
        """See `TreeSink.data`."""
        self._length += len(view)
        while view:
            view = view[os.write(self._file, view) :]

    def hole(self, length: int) -> None:
        """See `TreeSink.hole`."""
        self._length += length
        os.lseek(self._file, length, os.SEEK_CUR)

    def commit(self) -> None:
        """See `TreeSink.commit`; everything is written at once."""

    def close(self) -> None:
        """Complete what was begun: the last file, and the times of directories."""
        self._finish_file()
        for entry in reversed(self._directories):
            self._attributes(entry)
        self.abandon()

    def abandon(self) -> None:
        """Let go of everything. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._close_below(0)

    def _finish_file(self) -> None:
        entry, self._entry = self._entry, None
        if entry is None:
            return
        os.ftruncate(self._file, self._length)
        os.close(self._file)
        self._file = -1
        self._attributes(entry)

    def _link(self, entry: Entry) -> None:
        # the second call may close what the first one opened
        source = os.dup(self._parent(entry.link))
        try:
            os.link(
                self._name(entry.link),
                self._name(entry.path),
                src_dir_fd=source,
                dst_dir_fd=self._parent(entry.path),
                follow_symlinks=False,
            )
        finally:
            os.close(source)

    def _node(self, entry: Entry) -> None:
        if entry.kind is not Kind.FIFO and not self._preserve:
            self.left_out += 1
            return
        os.mknod(
            self._name(entry.path),
            _NODES[entry.kind] | 0o600,
            os.makedev(*entry.device),
            dir_fd=self._parent(entry.path),
        )
        self._attributes(entry)

    def _attributes(self, entry: Entry) -> None:
        name, parent = (self._name(entry.path), self._parent(entry.path)) if entry.path else (b".", self._root())
        if self._preserve:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind is not Kind.SYMLINK:
            os.chmod(name, entry.mode if self._preserve else entry.mode & 0o777, dir_fd=parent)
        if self._preserve:
            self._xattrs(entry, name, parent)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _xattrs(self, entry: Entry, name: bytes, parent: int) -> None:
        if sys.platform == "linux":
            for key, value in entry.xattrs.items():
                os.setxattr(f"/proc/self/fd/{parent}/".encode() + name, key, value, follow_symlinks=False)

    def _root(self) -> int:
        if not self._open:
            self._open.append((b"", os.open(self._directory, _DIRECTORY)))
        return self._open[0][1]

    def _parent(self, path: bytes) -> int:
        """The directory that holds `path`, reached step by step so that no link is followed."""
        self._root()
        parts = path.split(b"/")[:-1]
        if len(parts) > MOST_LEVELS:
            raise InvalidArgument(f"{os.fsdecode(path)[:80]} lies more than {MOST_LEVELS} directories deep")
        common = 0
        while common < min(len(parts), len(self._open) - 1) and self._open[common + 1][0] == parts[common]:
            common += 1
        self._close_below(common + 1)
        for part in parts[common:]:
            self._open.append((part, os.open(part, _DIRECTORY, dir_fd=self._open[-1][1])))
        return self._open[-1][1]

    def _close_below(self, kept: int) -> None:
        while len(self._open) > kept:
            os.close(self._open.pop()[1])

    @staticmethod
    def _name(path: bytes) -> bytes:
        return path.rpartition(b"/")[2]
