"""Trees between this host and a machine: a tar over the agent, packed and unpacked on both sides as it goes.

The archive from a guest is not trusted: it is bounded like an image's layer, and made below a directory of our own that
takes its name only when it is complete.
"""

import sys
from pathlib import Path, PurePosixPath

import anyio
import anyio.from_thread
import anyio.to_thread

from propolis.agent.builtins import Builtins
from propolis.agent.files import Files, FileType, GuestPath
from propolis.agent.process import GuestProcess
from propolis.errors import (
    FileMissing,
    ImageError,
    InvalidArgument,
    MachineError,
    Unsupported,
)
from propolis.image.rootfs import push_tree
from propolis.image.tar_writer import TarWriter

if sys.platform == "win32":

    def receive(process: GuestProcess, final: Path, preserve: bool) -> int:
        """See `receiving.receive`."""
        raise Unsupported("trees are not copied out to Windows yet", hint="read single files with machine.files.read")

else:
    from propolis.machine.receiving import receive


class _Ended(Exception):
    """The other side takes no more."""


async def copy_in(builtins: Builtins, source: Path, target: GuestPath, owner: str) -> None:
    """See `AsyncMachine.copy_in`; `owner` is `UID:GID` or `keep`."""
    final = await _final(Files(builtins), await anyio.to_thread.run_sync(_name, source), target)
    process = await builtins.start("extract", str(final.parent), owner)
    try:
        await anyio.to_thread.run_sync(_pack, source, final.name, process, abandon_on_cancel=True)
        await process.stdin.aclose()
        await process.stdout.aclose()
        await builtins.finish(process, ("extract", str(final)))
    except BaseException:
        process.abandon()
        raise


def _name(source: Path) -> str:
    if not source.exists():
        raise InvalidArgument(f"there is no {source} on this host", hint="check the path")
    return source.resolve().name


async def _final(files: Files, name: str, target: GuestPath) -> PurePosixPath:
    """Where a source called `name` goes: below `target` if that is a directory, else by that very name."""
    path = PurePosixPath(target)
    try:
        inside = (await files.stat(path)).type is FileType.DIRECTORY
    except FileMissing:
        inside = str(target).endswith("/")
    if inside:
        path /= name
    if path.name in ("", ".."):
        raise InvalidArgument(f"{target} is not a name that something can be copied to")
    return path


def _pack(source: Path, name: str, process: GuestProcess) -> None:
    def send(piece: bytes) -> None:
        try:
            anyio.from_thread.run(process.stdin.send, piece)
        except BrokenPipeError:
            raise _Ended from None

    writer = TarWriter(send, name.encode(errors="surrogateescape"))
    try:
        push_tree(source, writer, writer.tell_extents)
        writer.finish()
    except _Ended:  # its exit status says why
        return
    except ImageError as error:
        anyio.from_thread.run(process.stdin.aclose)  # half a file shall not stay
        anyio.from_thread.run(process.wait)
        raise MachineError(str(error), hint=error.hint) from error


async def copy_out(builtins: Builtins, source: GuestPath, target: Path, *, preserve: bool) -> int:
    """See `AsyncMachine.copy_out`."""
    final = await anyio.to_thread.run_sync(_place, PurePosixPath(source).name, target)
    argv = ("archive", str(source), "follow")
    async with builtins.running(*argv, input=False) as process:
        return await anyio.to_thread.run_sync(receive, process, final, preserve, abandon_on_cancel=True)


def _place(name: str, target: Path) -> Path:
    final = target / name if target.is_dir() else target
    if final.is_dir():
        raise InvalidArgument(f"{final} is there already", hint="remove it, or name another")
    return final
