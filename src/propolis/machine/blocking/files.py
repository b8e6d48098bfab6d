"""Files without async: derived from `agent.files` by tools/gen_blocking.py; do not edit."""

import contextlib
from collections.abc import AsyncIterator, Iterator

from propolis.agent import files
from propolis.agent.files import FileEvent, FileStatus, GuestPath
from propolis.machine.blocking.portal import Twin


class Files(Twin[files.Files]):
    """Files in a machine. A path that is not absolute is below the workload's working directory."""

    @contextlib.contextmanager
    def watch(self, path: GuestPath, *, recursive: bool = False) -> Iterator[Iterator[FileEvent]]:
        """Watch a file or a directory; entered, it gives the events that happen from then on.

        What another system changes below a mount of the host's is not seen.

        Raises:
            FileMissing: there is nothing to watch.
            FileError: it cannot be watched.
        """
        with self._portal.wrap_async_context_manager(self._source.watch(path, recursive=recursive)) as events:
            yield self._each(events)

    def _each(self, events: AsyncIterator[FileEvent]) -> Iterator[FileEvent]:
        while (event := self._call(lambda: anext(events, None))) is not None:
            yield event

    def read(self, path: GuestPath, *, offset: int = 0, length: int | None = None) -> bytes:
        """Return a file's content, at most 256 MiB.

        Raises:
            FileMissing: there is none.
            FileError: it cannot be read; `errno` says why.
            MachineError: it is larger than that.
        """
        return self._call(lambda: self._source.read(path, offset=offset, length=length))

    def write(self, path: GuestPath, data: bytes | str, *, mode: int = 420, append: bool = False) -> None:
        """Write a file, replacing or extending what it holds; `mode` is for a new one. Text becomes UTF-8.

        Raises:
            FileMissing: there is no such directory.
            FileError: it cannot be written; `errno` says why. Some of it may have been.
        """
        return self._call(lambda: self._source.write(path, data, mode=mode, append=append))

    def stat(self, path: GuestPath, *, follow: bool = True) -> FileStatus:
        """Return what a file is; `follow` a symbolic link to what it names.

        Raises:
            FileMissing: there is none.
            FileError: it cannot be reached.
        """
        return self._call(lambda: self._source.stat(path, follow=follow))

    def exists(self, path: GuestPath) -> bool:
        """Whether there is anything at `path`, be it a link to nowhere.

        Raises:
            FileError: that cannot be told.
        """
        return self._call(lambda: self._source.exists(path))

    def list(self, path: GuestPath) -> list[FileStatus]:
        """Return what is in a directory, by name.

        Raises:
            FileMissing: there is no such directory.
            FileError: it cannot be read, or is none.
        """
        return self._call(lambda: self._source.list(path))

    def mkdir(self, path: GuestPath, *, mode: int = 493, parents: bool = False) -> None:
        """Make a directory; with `parents` those above it too, and it may be there already.

        Raises:
            FileMissing: there is nothing to make it in.
            FileError: it cannot be made.
        """
        return self._call(lambda: self._source.mkdir(path, mode=mode, parents=parents))

    def remove(self, path: GuestPath, *, recursive: bool = False) -> None:
        """Remove a file, an empty directory, or with `recursive` a whole tree. No link is followed.

        Raises:
            FileMissing: there is none.
            FileError: it cannot be removed; some of a tree may have been.
        """
        return self._call(lambda: self._source.remove(path, recursive=recursive))

    def rename(self, source: GuestPath, target: GuestPath) -> None:
        """Rename a file or directory; a file that is there is replaced.

        Raises:
            FileMissing: there is no such file or directory.
            FileError: it cannot be renamed, for example to another file system.
        """
        return self._call(lambda: self._source.rename(source, target))
