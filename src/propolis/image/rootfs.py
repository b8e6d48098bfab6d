"""A directory of this host, holding a root file system, becomes entries in a `TreeSink`.

Names in the order of their bytes, so that the same tree gives the same entries. What the host cannot tell (owners and
modes on Windows) is made up: root's, and readable by all. Sockets belong to processes and are left out.
"""

import contextlib
import errno
import hashlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from propolis.errors import ImageError, ImageInvalid, ImageNotFound
from propolis.progress import Reporter, Silent
from propolis.tree import Entry, Kind, TreeSink

Extents = tuple[tuple[int, int], ...]
_STEP = "read directory"
_CHUNK = 256 << 10
_MOST_ENTRIES = 10_000_000
_READ_ONLY = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
}


def push_directory(directory: Path, sink: TreeSink, reporter: Reporter | None = None) -> str:
    """Push everything below `directory`, and its own attributes as the root's; returns a digest of all of that.

    Mounts below it are walked into. Extended attributes are read on Linux.

    Raises:
        ImageNotFound: there is no such directory.
        ImageInvalid: something changes while it is read.
        ImageError: something cannot be read; the message names it.
    """
    if not directory.is_dir():
        raise ImageNotFound(f"{directory} is not a directory", hint="name one that holds a root file system")
    reporter = reporter or Silent()
    reporter.begin(_STEP, str(directory))
    digest = _Walk(directory, sink, reporter).run()
    reporter.end(_STEP, str(directory))
    return f"sha256:{digest}"


def push_tree(path: Path, sink: TreeSink, tell_extents: Callable[[Extents], None]) -> None:
    """Push a file, or a directory and everything below it, as the tree's root; a link to one is followed.

    `tell_extents` is called before the entry of a file with holes: start and length of each part that is none.

    Raises:
        ImageError, ImageInvalid: as `push_directory`.
    """
    walk = _Walk(path, sink, Silent(), tell_extents)
    if path.is_dir():
        walk.run()
    else:
        walk.run_file()


class _Walk:
    """One pass over one directory."""

    def __init__(
        self,
        directory: Path,
        sink: TreeSink,
        reporter: Reporter,
        tell_extents: Callable[[Extents], None] | None = None,
    ) -> None:
        self._directory = directory
        self._root = os.fsencode(directory)
        self._sink = sink
        self._reporter = reporter
        self._tell_extents = tell_extents
        self._hash = hashlib.sha256()
        self._linked: dict[tuple[int, int], bytes] = {}

    def run(self) -> str:
        for count, (path, status) in enumerate(self._paths(), 1):
            if count > _MOST_ENTRIES:
                raise ImageInvalid(f"{self._directory} has more than {_MOST_ENTRIES} entries")
            self._one(path, status)
        return self._hash.hexdigest()

    def run_file(self) -> None:
        """For a root that is no directory."""
        try:
            status = self._directory.stat()
        except OSError as error:
            raise self._unreadable(b"", error) from error
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{self._directory} is neither a file nor a directory", hint="name one of them")
        self._one(b"", status)

    def _paths(self) -> Iterator[tuple[bytes, os.stat_result]]:
        """Every path below the directory, a directory before what is in it, beginning with itself (b"")."""
        pending = [b""]
        while pending:
            path = pending.pop()
            try:
                status = os.lstat(self._host(path)) if path else self._directory.stat()
                yield path, status
                if stat.S_ISDIR(status.st_mode):
                    names = sorted(os.listdir(self._host(path)), reverse=True)  # noqa: PTH208 - names are bytes
                    pending += [path + b"/" + name if path else name for name in names]
            except OSError as error:
                raise self._unreadable(path, error) from error

    def _one(self, path: bytes, status: os.stat_result) -> None:
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            self._reporter.notice(f"left out, as it is no file: {os.fsdecode(self._host(path))}")
            return
        inode = (status.st_dev, status.st_ino)
        if kind is not Kind.DIRECTORY and status.st_nlink > 1 and inode in self._linked:
            self._push(Entry(Kind.HARDLINK, path, link=self._linked[inode]))
            return
        if kind is not Kind.DIRECTORY and status.st_nlink > 1:
            self._linked[inode] = path
        with self._reading(path):
            entry = self._entry(kind, path, status)
        if kind is Kind.FILE and entry.size:
            self._file(entry)
        else:
            self._push(entry)

    def _entry(self, kind: Kind, path: bytes, status: os.stat_result) -> Entry:
        mode, uid, gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
        if sys.platform == "win32":
            mode, uid, gid = 0o755, 0, 0
        device = (0, 0)
        if sys.platform != "win32" and kind in (Kind.CHARACTER, Kind.BLOCK):
            device = (os.major(status.st_rdev), os.minor(status.st_rdev))
        return Entry(
            kind,
            path,
            mode=mode,
            uid=uid,
            gid=gid,
            mtime_ns=status.st_mtime_ns,
            size=status.st_size if kind is Kind.FILE else 0,
            link=os.fsencode(os.readlink(self._host(path))) if kind is Kind.SYMLINK else b"",  # noqa: PTH115
            device=device,
            xattrs=_xattrs(self._host(path)),
        )

    def _push(self, entry: Entry) -> None:
        self._hash.update(repr((*entry[:-1], sorted(entry.xattrs.items()))).encode())
        self._sink.entry(entry)

    def _file(self, entry: Entry) -> None:
        path, size = entry.path, entry.size
        with self._reading(path):
            descriptor = os.open(self._host(path), _READ_ONLY)
        try:
            with self._reading(path):
                extents = tuple((start, end - start) for start, end in _extents(descriptor, size))
            if self._tell_extents is not None and extents != ((0, size),):
                self._tell_extents(extents)
            self._push(entry)
            self._content(path, size, extents, descriptor)
            if os.fstat(descriptor).st_size != size:
                raise self._changed(path)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _reading(self, path: bytes) -> Iterator[None]:
        """Only around what reads: what the sink cannot write is another's fault."""
        try:
            yield
        except OSError as error:
            raise self._unreadable(path, error) from error

    def _content(self, path: bytes, size: int, extents: Extents, descriptor: int) -> None:
        position = 0
        for start, length in (*extents, (size, 0)):
            if start > position:
                self._hash.update(b"hole %d" % (start - position))
                self._sink.hole(start - position)
            os.lseek(descriptor, start, os.SEEK_SET)
            for at in range(0, length, _CHUNK):
                piece = self._exactly(path, descriptor, min(_CHUNK, length - at))
                self._hash.update(piece)
                self._sink.data(memoryview(piece))
                self._sink.commit()
                self._reporter.advance(_STEP, str(self._directory), len(piece))
            position = start + length

    def _exactly(self, path: bytes, descriptor: int, length: int) -> bytes:
        data = b""
        while len(data) < length:
            with self._reading(path):
                more = os.read(descriptor, length - len(data))
            if not more:
                raise self._changed(path)
            data += more
        return data

    def _host(self, path: bytes) -> bytes:
        return os.path.join(self._root, path.replace(b"/", os.sep.encode())) if path else self._root  # noqa: PTH118

    def _changed(self, path: bytes) -> ImageInvalid:
        return ImageInvalid(
            f"{os.fsdecode(self._host(path))} changed while it was read", hint="let nothing write there, then try again"
        )

    def _unreadable(self, path: bytes, error: OSError) -> ImageError:
        what = os.fsdecode(self._host(path))
        if error.errno == errno.ENOENT:
            return ImageInvalid(f"{what} went away while it was read", hint="let nothing write there, then try again")
        return ImageError(f"cannot read {what}: {error.strerror}", hint="read it as a user who may")


if sys.platform == "linux":

    def _xattrs(path: bytes) -> dict[bytes, bytes]:
        try:
            names = os.listxattr(path, follow_symlinks=False)
        except OSError:  # a file system without them
            return {}
        found = {}
        for name in names:
            try:
                found[os.fsencode(name)] = os.getxattr(path, name, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.ENODATA, errno.EPERM, errno.EACCES):
                    raise
        return found

else:

    def _xattrs(path: bytes) -> dict[bytes, bytes]:
        del path
        return {}


if sys.platform == "win32":

    def _extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
        del descriptor
        yield 0, size

else:

    def _extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
        """Start and end of each part of a file that is not a hole, as far as the host tells."""
        end = 0
        while end < size:
            try:
                start = os.lseek(descriptor, end, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:  # a file system that does not tell
                    yield end, size
                return  # nothing but hole from here on
            end = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
            if start < size:
                yield start, end
