"""Programs of the guest's agent itself, called like any process (`guest/builtin.h`): files, archives, connections.

Their exit status is 0 or a Linux errno, and one sentence stands on standard error. The guest is not trusted: what it
says is bounded.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from propolis import spec
from propolis.agent.process import ExitStatus, GuestProcess, OutputStream
from propolis.errors import FileError, FileMissing, InvalidArgument, MachineError

_MOST_WORDS = 4096
_ENOENT = 2
_HINTS = {
    2: "check the path; `machine.files.list` shows what there is",
    16: "something in the machine uses it: end that first",
    28: "the machine's disk is full: remove something, or start it with a larger one",
    30: "this part of the machine is read-only: write elsewhere",
    111: "see whether the service runs in the machine, and where it listens",
}


class Runner(Protocol):
    """Starts processes in the guest."""

    async def exec(self, process: spec.Process, *, input: bool = True) -> GuestProcess:
        """See `AgentClient.exec`."""


class Builtins:
    """Calls them on one machine; relative paths are below `working_dir`."""

    def __init__(self, runner: Runner, working_dir: str = "/") -> None:
        self._runner = runner
        self._working_dir = working_dir

    async def start(self, *argv: str, input: bool = True) -> GuestProcess:
        """Start one, with or without standard input. `finish` it, or `abandon` it.

        Raises:
            InvalidArgument: a path holds a NUL byte.
            MachineLost: the machine went away.
        """
        if any("\0" in word for word in argv):
            raise InvalidArgument("a path in the machine cannot hold a NUL byte")
        process = spec.Process(argv=argv, builtin=True, working_dir=self._working_dir)
        return await self._runner.exec(process, input=input)

    async def finish(self, process: GuestProcess, argv: Sequence[str]) -> None:
        """Wait for its end. Its standard output must have been taken, or closed.

        Raises:
            FileMissing: what it was about does not exist.
            FileError: it failed; the sentence is the guest's.
            MachineLost: the machine went away.
        """
        words = await _words(process.stderr)
        status = await process.wait()
        if status != ExitStatus(0):
            raise _error(status, words, argv)

    @asynccontextmanager
    async def running(self, *argv: str, input: bool = True) -> AsyncIterator[GuestProcess]:
        """Run one around the body, and `finish` it; if the body raises, kill it."""
        process = await self.start(*argv, input=input)
        try:
            yield process
            await self.finish(process, argv)
        except BaseException:
            process.abandon()
            raise

    async def output(self, *argv: str, most: int) -> bytes:
        """Run one to its end without input; returns what it printed.

        Raises:
            MachineError: that is more than `most` bytes.
            FileMissing, FileError: as `finish`.
        """
        async with self.running(*argv, input=False) as process:
            pieces, length = [], 0
            while piece := await process.stdout.receive():
                pieces.append(piece)
                length += len(piece)
                if length > most:
                    raise MachineError(
                        f"{argv[0]} {argv[1]} gives more than {most >> 20} MiB, which is not kept in memory",
                        hint="copy it out, or read it in parts",
                    )
            return b"".join(pieces)


async def _words(stream: OutputStream) -> str:
    """The beginning of what was said; the rest is dropped."""
    text = b""
    while piece := await stream.receive():
        text += piece
        if len(text) > _MOST_WORDS:
            await stream.aclose()
    shown = text[:_MOST_WORDS].decode(errors="replace")
    return "".join(letter if letter.isprintable() else "?" for letter in shown)


def _error(status: ExitStatus, words: str, argv: Sequence[str]) -> MachineError:
    if status.signal:
        return MachineError(f"{argv[0]} was killed in the machine by signal {status.signal}")
    kind = FileMissing if status.code == _ENOENT else FileError
    path = argv[1] if len(argv) > 1 else ""
    return kind(f"in the machine: {words or argv[0]}", number=status.code, path=path, hint=_HINTS.get(status.code, ""))
