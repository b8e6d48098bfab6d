"""A running machine, asynchronously: the implementation that `blocking` is derived from (tools/gen_blocking.py).

Runs under asyncio and trio. Nothing here knows how a machine is launched or what runs it.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Unpack

import anyio

from propolis.agent import statistics
from propolis.agent.builtins import Builtins
from propolis.agent.connection import Connection, dial
from propolis.agent.files import Files, GuestPath
from propolis.agent.process import GuestProcess
from propolis.agent.signals import Signal
from propolis.agent.statistics import Statistics
from propolis.agent.wire import SignalScope
from propolis.errors import DeadlineExceeded, InvalidArgument, MachineLost
from propolis.machine.attach import collect
from propolis.machine.broadcast import Broadcast
from propolis.machine.copying import copy_in, copy_out
from propolis.machine.grouping import ungrouped
from propolis.machine.launch import Launched, launch
from propolis.machine.mounting import Mounting
from propolis.machine.mounts import volumes
from propolis.machine.options import ExecOptions, MachineOptions, machine_spec
from propolis.machine.result import Result
from propolis.machine.workload import exec_process
from propolis.progress import Reporter, Silent
from propolis.spec import Mount

_MOST_STATISTICS = 4 << 20
STOP_TIMEOUT = 10.0
"""Seconds that processes are given to end after SIGTERM, as with docker."""


async def arun(
    image: str | None = None,
    command: Sequence[str] | None = None,
    *,
    input: bytes | None = None,
    timeout: float | None = None,
    reporter: Reporter | None = None,
    **options: Unpack[MachineOptions],
) -> Result:
    """Run an image's workload to its end in a machine of its own; collect its output.

    Args:
        image: reference of the image, as on the command line; None with `rootfs`.
        command: replaces the image's command.
        input: what the workload reads on standard input; end of file at once when None.
        timeout: seconds for all of it, boot included.
        reporter: hears of progress.
        options: see `MachineOptions`.

    Raises:
        DeadlineExceeded: `timeout` ran out. The machine is gone.
        PropolisError: anything else that keeps the workload from running to its end; see `propolis.errors`.
    """
    spec = machine_spec(image, command, **options)
    with ungrouped(), _deadline(timeout, "the machine was ended"):
        async with launch(spec, reporter or Silent()) as launched:
            return await collect(await launched.agent.start(input=input is not None), input)


class AsyncMachine:
    """A machine that stays up until it is stopped, whatever becomes of its workload. Made by `start`."""

    def __init__(self, launched: Launched, main: GuestProcess, broadcast: Broadcast) -> None:
        """Not to be called: use `start`."""
        self._launched = launched
        self._main = main
        self._broadcast = broadcast
        self._builtins = Builtins(launched.agent, launched.process.working_dir)
        self._mounting = Mounting(launched, self._builtins)

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls,
        image: str | None = None,
        command: Sequence[str] | None = None,
        *,
        reporter: Reporter | None = None,
        **options: Unpack[MachineOptions],
    ) -> AsyncIterator["AsyncMachine"]:
        """Start a machine and its workload; stop it on leaving the context.

        The workload's output is kept as `logs`; it reads end of file.

        Args:
            image: reference of the image, as on the command line; None with `rootfs`.
            command: replaces the image's command.
            reporter: hears of progress.
            options: see `MachineOptions`.

        Raises:
            PropolisError: the machine or its workload cannot be started; see `propolis.errors`.
        """
        spec = machine_spec(image, command, **options)
        with ungrouped():
            async with launch(spec, reporter or Silent()) as launched, anyio.create_task_group() as tasks:
                main = await launched.agent.start(input=False)
                broadcast = Broadcast(main)
                launched.control.programs.update(broadcast.programs())
                machine = cls(launched, main, broadcast)
                tasks.start_soon(machine._follow)
                yield machine
                await machine.stop()
                tasks.cancel_scope.cancel()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.id}>"

    @property
    def id(self) -> str:
        """The machine's id: twelve hexadecimal digits."""
        return self._launched.record.id

    @property
    def name(self) -> str:
        """The machine's name."""
        return self._launched.record.name

    @property
    def is_alive(self) -> bool:
        """Whether the machine runs, as far as is known now."""
        return self._launched.handle.is_alive

    @property
    def files(self) -> Files:
        """The machine's files: read, write, list, watch."""
        return Files(self._builtins)

    async def exec(
        self,
        argv: Sequence[str],
        *,
        input: bytes | None = None,
        timeout: float | None = None,
        **options: Unpack[ExecOptions],
    ) -> Result:
        """Run one more process in the machine to its end; collect its output.

        Environment, working directory, user and rights are the workload's unless given.

        Args:
            argv: the program and its arguments.
            input: what it reads on standard input; end of file at once when None.
            timeout: seconds, after which it is killed, whatever its streams do.
            options: see `ExecOptions`.

        Raises:
            InvalidArgument: an option is out of bounds.
            CommandNotFound, CommandNotExecutable, ProcessError: it could not be started.
            DeadlineExceeded: `timeout` seconds ran out; the process has been killed.
            MachineLost: the machine went away.
        """
        process = exec_process(self._launched.process, argv, **options)
        async with self._launched.told():
            with ungrouped(), _deadline(timeout, f"{argv[0]} was killed"):
                return await collect(await self._launched.agent.exec(process, input=bool(input)), input)

    async def open(self, argv: Sequence[str], **options: Unpack[ExecOptions]) -> GuestProcess:
        """Start one more process in the machine, to be talked to: take both its outputs, or close them.

        Raises as `exec`.
        """
        async with self._launched.told():
            return await self._launched.agent.exec(exec_process(self._launched.process, argv, **options))

    async def copy_in(self, source: str | Path, target: GuestPath, *, owner: str = "0:0") -> None:
        """Copy a file or a tree of this host into the machine, with modes, times, links, holes and attributes.

        If `target` is a directory there, or ends in a slash, the copy gets the source's name in it. Files that are
        there are replaced, directories filled. Missing directories above it are made.

        Args:
            source: a file or directory; a link to one is followed.
            target: where the copy goes.
            owner: `UID:GID` for all of it, or `keep`.

        Raises:
            InvalidArgument: there is no such source, or the target or owner cannot be.
            FileError: the machine refuses it; `errno` says why. What was copied before stays.
            MachineError: the source cannot be read, or changes meanwhile.
        """
        if owner != "keep" and not re.fullmatch(r"\d{1,10}:\d{1,10}", owner):
            raise InvalidArgument(f"{owner[:40]!r} is no owner", hint="write UID:GID in numbers, or keep")
        async with self._launched.told():
            with ungrouped():
                await copy_in(self._builtins, Path(source), target, owner)

    async def copy_out(self, source: GuestPath, target: str | Path, *, preserve: bool = False) -> int:
        """Copy a file or a tree of the machine to this host; returns how many entries were left out.

        If `target` is a directory, the copy gets the source's name in it. It takes its place only when complete. What
        could give rights on this host (owners, set-id bits, devices, attributes) is left out unless `preserve` is set,
        which needs root; sockets always are.

        Raises:
            InvalidArgument: a directory of that name is there already.
            FileMissing, FileError: the machine's file cannot be read; `errno` says why.
            StorageFull, DiskError: it cannot be written here.
            ImageInvalid: the machine sent no good archive.
            Unsupported: on Windows, for now.
        """
        async with self._launched.told():
            with ungrouped():
                return await copy_out(self._builtins, source, Path(target), preserve=preserve)

    async def mount(self, mount: Mount | str) -> None:
        """Mount one more directory or file of this host while the machine runs, or memory (a tmpfs).

        Its place is made in the machine if it is missing; links there are followed as the machine sees them.

        Args:
            mount: as in `volumes`: `SOURCE:TARGET[:ro]` or a `Mount`.

        Raises:
            InvalidArgument: there can be no such mount, or there is one at its target already.
            Unsupported: the machine's backend shows no directories to a machine that runs.
            BackendError: the hypervisor refuses.
            FileError: the machine refuses; `errno` says why. Nothing is left then.
            DeadlineExceeded: the machine does not answer.
        """
        (checked,) = volumes((mount,))
        async with self._launched.told():
            await self._mounting.add(checked)

    async def unmount(self, target: str) -> None:
        """Take away what `mount` has mounted at `target`. If the machine has unmounted it itself, that is no error.

        Raises:
            InvalidArgument: nothing was.
            FileError: it is in use (EBUSY), or covered by another mount; it stays.
            BackendError: the hypervisor refuses; it can be tried again.
            DeadlineExceeded: the machine does not answer.
        """
        async with self._launched.told():
            await self._mounting.remove(target)

    async def dial(self, address: str | int) -> Connection:
        """Connect to a port of the machine's loopback, to `HOST:PORT` seen from it, or to the path of a unix socket.

        Raises:
            InvalidArgument: that is no address.
            FileMissing, FileError: nobody listens there; `errno` says more.
        """
        async with self._launched.told():
            return await dial(self._builtins, address)

    async def stats(self) -> Statistics:
        """What the machine uses of what it has, now."""
        async with self._launched.told():
            return statistics.read(await self._builtins.output("stats", most=_MOST_STATISTICS))

    async def wait(self, timeout: float | None = None) -> int:
        """Wait for the workload's end and return its exit code; the machine stays up.

        Raises:
            DeadlineExceeded: it still runs after `timeout` seconds.
            MachineLost: the machine went away first.
        """
        async with self._launched.told():
            with _deadline(timeout, "the workload still runs"):
                return (await self._main.wait()).shell_code

    async def signal(self, signal: Signal, scope: SignalScope = SignalScope.GROUP) -> None:
        """Send a signal to the workload's process group, or to it alone. Does nothing once it has ended.

        Args:
            signal: a name ("TERM", "SIGTERM"), a member of Python's `signal`, or Linux' number.
            scope: whom it reaches.

        Raises:
            InvalidArgument: no such signal.
        """
        await self._main.signal(signal, scope)

    def logs(self) -> bytes:
        """The end of what the workload printed on both streams, at most 1 MiB."""
        return self._broadcast.log.content()

    def console(self) -> str:
        """The end of what the guest's kernel and init printed, at most 64 KiB."""
        return self._launched.handle.console()

    async def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """End all processes (SIGTERM, after `timeout` seconds SIGKILL) and power the machine off. Idempotent."""
        await self._launched.shut_down(timeout)

    async def _follow(self) -> None:
        # that the machine was lost is told to whoever asks something of it
        with contextlib.suppress(MachineLost), ungrouped():
            await self._broadcast.run()


@contextlib.contextmanager
def _deadline(seconds: float | None, what: str) -> Iterator[None]:
    if seconds is not None and not seconds >= 0:
        raise InvalidArgument(f"{seconds:g} s is not a time to wait")
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError as error:
        raise DeadlineExceeded(f"{what}: {seconds:g} s ran out") from error
