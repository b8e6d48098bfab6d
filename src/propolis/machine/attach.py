"""Joins a process in the guest to streams on the host: input in, output out in order, none lost, then its exit."""

import contextlib
from collections.abc import Awaitable, Callable

import anyio

from propolis.agent.process import ExitStatus, GuestProcess, OutputStream
from propolis.errors import MachineError
from propolis.machine.result import Result

Read = Callable[[], Awaitable[bytes]]
"""The next bytes of input; `b""` at its end."""
Write = Callable[[bytes], Awaitable[None]]

MOST_OUTPUT = 256 << 20
"""Bytes of output, both streams together, that are collected in memory."""


async def attach(process: GuestProcess, stdin: Read | None, stdout: Write, stderr: Write) -> ExitStatus:
    """Carry the streams until the process has ended and all its output has been written; kill it if that fails.

    Without `stdin` the process reads end of file at once. Input that the process does not take is dropped.

    Raises:
        MachineLost: the machine went away meanwhile.
        Whatever `stdin`, `stdout` and `stderr` raise.
    """
    try:
        async with anyio.create_task_group() as output:
            output.start_soon(_drain, process.stdout, stdout)
            output.start_soon(_drain, process.stderr, stderr)
            async with anyio.create_task_group() as input_:
                input_.start_soon(_feed, process, stdin)
                status = await process.wait()
                input_.cancel_scope.cancel()
    except BaseException:
        process.abandon()
        raise
    return status


async def collect(process: GuestProcess, data: bytes | None) -> Result:
    """Give the process `data` to read and keep what it prints, until it has ended.

    Raises:
        MachineLost: the machine went away meanwhile.
        MachineError: it printed more than MOST_OUTPUT.
    """
    kept = Collected(MOST_OUTPUT)
    status = await attach(process, from_bytes(data or b""), kept.take_stdout, kept.take_stderr)
    return Result(exit_code=status.shell_code, stdout=bytes(kept.stdout), stderr=bytes(kept.stderr))


class Collected:
    """Output kept in memory, up to a limit for both streams together."""

    def __init__(self, limit: int) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._limit = limit

    async def take_stdout(self, data: bytes) -> None:
        """Keep what came on standard output."""
        self._keep(self.stdout, data)

    async def take_stderr(self, data: bytes) -> None:
        """Keep what came on standard error."""
        self._keep(self.stderr, data)

    def _keep(self, kept: bytearray, data: bytes) -> None:
        kept += data
        if len(self.stdout) + len(self.stderr) > self._limit:
            raise MachineError(
                f"the process printed more than {self._limit >> 20} MiB, which is not kept in memory",
                hint="let it write to a file, or run it from the command line and redirect its output",
            )


def from_bytes(data: bytes) -> Read:
    """Input that is all there already."""
    pieces = [data] if data else []

    async def read() -> bytes:
        return pieces.pop() if pieces else b""

    return read


async def _feed(process: GuestProcess, read: Read | None) -> None:
    with contextlib.suppress(BrokenPipeError):  # the process takes no more input; that is its right
        while read is not None and (data := await read()):
            await process.stdin.send(data)
    await process.stdin.aclose()


async def _drain(stream: OutputStream, write: Write) -> None:
    while data := await stream.receive():
        await write(data)
