"""Files of the guest: its builtin programs, called and read. Paths are the guest's; `os.fsdecode` forms of bytes.

The guest is not trusted: what it says is bounded and checked, and never becomes a path of the host here.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from propolis.agent.builtins import Builtins
from propolis.agent.process import GuestProcess
from propolis.errors import FileMissing, InvalidArgument, ProtocolError

MOST_CONTENT = 256 << 20
"""Bytes that `read` returns at most."""
_MOST_RECORDS = 64 << 20
"""Bytes that are told of the files of one directory at most."""
_MOST_LINE = 1 << 20

GuestPath = str | PurePosixPath


class FileType(StrEnum):
    """What a file is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    CHARACTER = "character"
    BLOCK = "block"
    FIFO = "fifo"
    SOCKET = "socket"


_TYPES = {
    0o10: FileType.FILE,
    0o04: FileType.DIRECTORY,
    0o12: FileType.SYMLINK,
    0o02: FileType.CHARACTER,
    0o06: FileType.BLOCK,
    0o01: FileType.FIFO,
    0o14: FileType.SOCKET,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStatus:
    """What the guest's kernel tells of one file. Times are nanoseconds since 1970."""

    name: str
    """As asked for by `stat`; without directory in a list."""
    type: FileType
    mode: int
    """Permission bits."""
    uid: int
    gid: int
    size: int
    blocks: int
    """Of 512 bytes, as allocated."""
    links: int
    inode: int
    device: tuple[int, int]
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    target: str = ""
    """Of a symbolic link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEvent:
    """Something that happened to a file."""

    event: str
    """created, removed, modified, written (closed after writing), moved_from, moved_to, attributes, or overflowed: then
    events were lost."""
    path: str
    is_directory: bool


class Files:
    """Files in a machine. A path that is not absolute is below the workload's working directory."""

    def __init__(self, builtins: Builtins) -> None:
        """Not to be called: it is `machine.files`."""
        self._builtins = builtins

    async def read(self, path: GuestPath, *, offset: int = 0, length: int | None = None) -> bytes:
        """Return a file's content, at most 256 MiB.

        Raises:
            FileMissing: there is none.
            FileError: it cannot be read; `errno` says why.
            MachineError: it is larger than that.
        """
        if offset < 0 or (length is not None and length < 0):
            raise InvalidArgument("offset and length of what is to be read cannot be negative")
        arguments = ("read", str(path), str(offset), str(-1 if length is None else length))
        return await self._output(arguments, MOST_CONTENT)

    async def write(self, path: GuestPath, data: bytes | str, *, mode: int = 0o644, append: bool = False) -> None:
        """Write a file, replacing or extending what it holds; `mode` is for a new one. Text becomes UTF-8.

        Raises:
            FileMissing: there is no such directory.
            FileError: it cannot be written; `errno` says why. Some of it may have been.
        """
        content = data.encode() if isinstance(data, str) else data
        how = "append" if append else "truncate"
        async with self._builtins.running("write", str(path), f"{mode:o}", how) as process:
            with suppress(BrokenPipeError):  # it has failed, and its exit status says why
                await process.stdin.send(content)
            await process.stdin.aclose()

    async def stat(self, path: GuestPath, *, follow: bool = True) -> FileStatus:
        """Return what a file is; `follow` a symbolic link to what it names.

        Raises:
            FileMissing: there is none.
            FileError: it cannot be reached.
        """
        (status,) = _statuses(await self._output(("stat", str(path), "follow" if follow else "nofollow")), most=1)
        return status

    async def exists(self, path: GuestPath) -> bool:
        """Whether there is anything at `path`, be it a link to nowhere.

        Raises:
            FileError: that cannot be told.
        """
        try:
            await self.stat(path, follow=False)
        except FileMissing:
            return False
        return True

    async def list(self, path: GuestPath) -> list[FileStatus]:
        """Return what is in a directory, by name.

        Raises:
            FileMissing: there is no such directory.
            FileError: it cannot be read, or is none.
        """
        return sorted(_statuses(await self._output(("list", str(path)))), key=lambda status: status.name)

    async def mkdir(self, path: GuestPath, *, mode: int = 0o755, parents: bool = False) -> None:
        """Make a directory; with `parents` those above it too, and it may be there already.

        Raises:
            FileMissing: there is nothing to make it in.
            FileError: it cannot be made.
        """
        await self._output(("mkdir", str(path), f"{mode:o}", "parents" if parents else "one"))

    async def remove(self, path: GuestPath, *, recursive: bool = False) -> None:
        """Remove a file, an empty directory, or with `recursive` a whole tree. No link is followed.

        Raises:
            FileMissing: there is none.
            FileError: it cannot be removed; some of a tree may have been.
        """
        await self._output(("remove", str(path), "recursive" if recursive else "one"))

    async def rename(self, source: GuestPath, target: GuestPath) -> None:
        """Rename a file or directory; a file that is there is replaced.

        Raises:
            FileMissing: there is no such file or directory.
            FileError: it cannot be renamed, for example to another file system.
        """
        await self._output(("rename", str(source), str(target)))

    async def _output(self, argv: Sequence[str], most: int = _MOST_RECORDS) -> bytes:
        return await self._builtins.output(*argv, most=most)

    @asynccontextmanager
    async def watch(self, path: GuestPath, *, recursive: bool = False) -> AsyncIterator[AsyncIterator[FileEvent]]:
        """Watch a file or a directory; entered, it gives the events that happen from then on.

        What another system changes below a mount of the host's is not seen.

        Raises:
            FileMissing: there is nothing to watch.
            FileError: it cannot be watched.
        """
        argv = ("watch", str(path), "recursive" if recursive else "one")
        process = await self._builtins.start(*argv)
        events = self._events(process, argv)
        try:
            await anext(events)
            yield events
        finally:
            process.abandon()
            await events.aclose()

    async def _events(self, process: GuestProcess, argv: tuple[str, ...]) -> AsyncGenerator[FileEvent, None]:
        rest = b""
        while piece := await process.stdout.receive():
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > _MOST_LINE:
                raise ProtocolError("the guest sent an endless line about a file")
            for line in lines:
                record = _record(line)
                yield FileEvent(
                    event=_text(record, "event"),
                    path=_text(record, "path"),
                    is_directory=bool(_number(record, "directory")),
                )
        await self._builtins.finish(process, argv)


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode(errors="surrogateescape"))
    except (ValueError, RecursionError):
        raise ProtocolError("the guest told of a file in no known form") from None
    if not isinstance(record, dict):
        raise ProtocolError("the guest told of a file in no known form")
    return record


def _number(record: dict[str, Any], key: str) -> int:
    value = record.get(key)
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise ProtocolError(f"the guest told no {key} of a file")
    return value


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise ProtocolError(f"the guest told no {key} of a file")
    return value


def _statuses(output: bytes, most: int | None = None) -> list[FileStatus]:
    found = [_status(_record(line)) for line in output.split(b"\n") if line]
    if most is not None and len(found) != most:
        raise ProtocolError(f"the guest told of {len(found)} files instead of {most}")
    return found


def _status(record: dict[str, Any]) -> FileStatus:
    mode = _number(record, "mode")
    kind = _TYPES.get(mode >> 12)
    device = record.get("device")
    if (
        kind is None
        or not isinstance(device, list)
        or len(device) != 2
        or any(type(part) is not int for part in device)
    ):
        raise ProtocolError("the guest told of a file that cannot be")
    numbers = ("uid", "gid", "size", "blocks", "links", "inode", "atime_ns", "mtime_ns", "ctime_ns")
    return FileStatus(
        name=_text(record, "name"),
        type=kind,
        mode=mode & 0o7777,
        device=(device[0], device[1]),
        target=_text(record, "target") if "target" in record else "",
        **{key: _number(record, key) for key in numbers},
    )
