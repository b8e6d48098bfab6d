"""A machine without async: derived from `machine.handle` by tools/gen_blocking.py; do not edit."""

import atexit
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, Unpack

from anyio.from_thread import BlockingPortal

from propolis.agent.files import GuestPath
from propolis.agent.signals import Signal
from propolis.agent.statistics import Statistics
from propolis.agent.wire import SignalScope
from propolis.errors import MachineLost
from propolis.machine.blocking.connection import Connection
from propolis.machine.blocking.files import Files
from propolis.machine.blocking.portal import Opened, in_portal, portals
from propolis.machine.blocking.process import GuestProcess
from propolis.machine.handle import STOP_TIMEOUT, AsyncMachine, arun
from propolis.machine.options import ExecOptions, MachineOptions
from propolis.machine.result import Result
from propolis.progress import Reporter
from propolis.spec import Mount

_T = TypeVar("_T")


def run(
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
    with portals as portal:
        return in_portal(
            portal, lambda: arun(image, command, input=input, timeout=timeout, reporter=reporter, **options)
        )


class Machine:
    """A machine that stays up until it is stopped, whatever becomes of its workload. Made by `start`."""

    def __init__(self, machine: AsyncMachine, portal: BlockingPortal, lease: contextlib.ExitStack) -> None:
        """Not to be called: use `start`."""
        self._machine = machine
        self._portal = portal
        self._lease = lease
        self._open = True
        atexit.register(self._close)

    @classmethod
    def start(
        cls,
        image: str | None = None,
        command: Sequence[str] | None = None,
        *,
        reporter: Reporter | None = None,
        **options: Unpack[MachineOptions],
    ) -> Self:
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
        with contextlib.ExitStack() as lease:
            portal = lease.enter_context(portals)
            machine = lease.enter_context(
                Opened(portal, AsyncMachine.start(image, command, reporter=reporter, **options))
            )
            return cls(machine, portal, lease.pop_all())
        raise AssertionError("unreachable")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.id}>"

    def __enter__(self) -> Self:
        """Use the machine; it is stopped on leaving."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the machine."""
        self._close()

    def _close(self) -> None:
        self._open = False
        atexit.unregister(self._close)
        self._lease.close()

    def _call(self, call: Callable[[], Awaitable[_T]]) -> _T:
        if not self._open:
            raise MachineLost(f"the machine {self.name} has been stopped")
        return in_portal(self._portal, call)

    @property
    def id(self) -> str:
        """The machine's id: twelve hexadecimal digits."""
        return self._machine.id

    @property
    def name(self) -> str:
        """The machine's name."""
        return self._machine.name

    @property
    def is_alive(self) -> bool:
        """Whether the machine runs, as far as is known now."""
        return self._machine.is_alive

    @property
    def files(self) -> Files:
        """The machine's files: read, write, list, watch."""
        return Files(self._machine.files, self._portal)

    def exec(
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
        return self._call(lambda: self._machine.exec(argv, input=input, timeout=timeout, **options))

    def open(self, argv: Sequence[str], **options: Unpack[ExecOptions]) -> GuestProcess:
        """Start one more process in the machine, to be talked to: take both its outputs, or close them.

        Raises as `exec`.
        """
        return GuestProcess(self._call(lambda: self._machine.open(argv, **options)), self._portal)

    def copy_in(self, source: str | Path, target: GuestPath, *, owner: str = "0:0") -> None:
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
        return self._call(lambda: self._machine.copy_in(source, target, owner=owner))

    def copy_out(self, source: GuestPath, target: str | Path, *, preserve: bool = False) -> int:
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
        return self._call(lambda: self._machine.copy_out(source, target, preserve=preserve))

    def mount(self, mount: Mount | str) -> None:
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
        return self._call(lambda: self._machine.mount(mount))

    def unmount(self, target: str) -> None:
        """Take away what `mount` has mounted at `target`. If the machine has unmounted it itself, that is no error.

        Raises:
            InvalidArgument: nothing was.
            FileError: it is in use (EBUSY), or covered by another mount; it stays.
            BackendError: the hypervisor refuses; it can be tried again.
            DeadlineExceeded: the machine does not answer.
        """
        return self._call(lambda: self._machine.unmount(target))

    def dial(self, address: str | int) -> Connection:
        """Connect to a port of the machine's loopback, to `HOST:PORT` seen from it, or to the path of a unix socket.

        Raises:
            InvalidArgument: that is no address.
            FileMissing, FileError: nobody listens there; `errno` says more.
        """
        return Connection(self._call(lambda: self._machine.dial(address)), self._portal)

    def stats(self) -> Statistics:
        """What the machine uses of what it has, now."""
        return self._call(self._machine.stats)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the workload's end and return its exit code; the machine stays up.

        Raises:
            DeadlineExceeded: it still runs after `timeout` seconds.
            MachineLost: the machine went away first.
        """
        return self._call(lambda: self._machine.wait(timeout))

    def signal(self, signal: Signal, scope: SignalScope = SignalScope.GROUP) -> None:
        """Send a signal to the workload's process group, or to it alone. Does nothing once it has ended.

        Args:
            signal: a name ("TERM", "SIGTERM"), a member of Python's `signal`, or Linux' number.
            scope: whom it reaches.

        Raises:
            InvalidArgument: no such signal.
        """
        return self._call(lambda: self._machine.signal(signal, scope))

    def logs(self) -> bytes:
        """The end of what the workload printed on both streams, at most 1 MiB."""
        return self._machine.logs()

    def console(self) -> str:
        """The end of what the guest's kernel and init printed, at most 64 KiB."""
        return self._machine.console()

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """End all processes (SIGTERM, after `timeout` seconds SIGKILL) and power the machine off. Idempotent."""
        if self._open:
            self._call(lambda: self._machine.stop(timeout))
            self._close()
