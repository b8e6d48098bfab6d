"""A running machine without async: derived from `handle` by tools/gen_blocking.py; do not edit.

Each call runs its coroutine in an event loop in a thread of its own, shared by all machines of the process.
"""

import atexit
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, Unpack

import anyio
from anyio.from_thread import BlockingPortal, BlockingPortalProvider

from propolis.agent import connection, files, process
from propolis.agent.files import FileEvent, FileStatus, GuestPath
from propolis.agent.process import ExitStatus
from propolis.agent.signals import Signal
from propolis.agent.statistics import Statistics
from propolis.agent.wire import SignalScope
from propolis.errors import MachineLost
from propolis.machine.handle import STOP_TIMEOUT, AsyncMachine, arun
from propolis.machine.options import ExecOptions, MachineOptions
from propolis.machine.result import Result
from propolis.progress import Reporter
from propolis.spec import Mount

_T = TypeVar("_T")
_portals = BlockingPortalProvider()


def _in_portal(portal: BlockingPortal, call: Callable[[], Awaitable[_T]]) -> _T:
    """Run `call` in the portal's loop; an interrupt here (Ctrl-C) cancels it there."""
    future = portal.start_task_soon(call)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


class _Opened:
    """A machine's asynchronous context, held open by one task in the portal."""

    def __init__(self, portal: BlockingPortal, opening: AbstractAsyncContextManager[AsyncMachine]) -> None:
        self._portal = portal
        self._opening = opening
        self._machine: Future[AsyncMachine] = Future()

    def __enter__(self) -> AsyncMachine:
        self._task = self._portal.start_task_soon(self._hold)
        return self._wait_for(self._machine)

    def __exit__(self, *_exception: object) -> None:
        self._wait_for(self._portal.start_task_soon(self._leave.set))
        self._wait_for(self._task)

    async def _hold(self) -> None:
        self._leave = anyio.Event()
        try:
            async with self._opening as machine:
                self._machine.set_result(machine)
                await self._leave.wait()
        except BaseException as error:
            if not self._machine.done():
                self._machine.set_exception(error)
            raise

    def _wait_for(self, future: Future[_T]) -> _T:
        try:
            return future.result()
        except BaseException:  # an interrupt (Ctrl-C) ends the machine there; the portal waits for that
            self._task.cancel()
            raise


class Files:
    """Files in a machine. A path that is not absolute is below the workload's working directory."""

    def __init__(self, source: files.Files, portal: BlockingPortal) -> None:
        """Not to be called: it is `machine.files`."""
        self._source = source
        self._portal = portal

    def _call(self, call: Callable[[], Awaitable[_T]]) -> _T:
        return _in_portal(self._portal, call)

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


class OutputStream:
    """Standard output or standard error of a process."""

    def __init__(self, source: process.OutputStream, portal: BlockingPortal) -> None:
        """Not to be called: it belongs to a process."""
        self._source = source
        self._portal = portal

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over what `receive` returns, up to the end."""
        while piece := self.receive():
            yield piece

    def _call(self, call: Callable[[], Awaitable[_T]]) -> _T:
        return _in_portal(self._portal, call)

    def receive(self, max_bytes: int = 65536) -> bytes:
        """Return the next bytes, at least one; `b""` at the end of the stream.

        Raises:
            MachineLost: the machine went away; what had come before was returned first.
            ProtocolError: likewise, because the guest broke the protocol.
        """
        return self._call(lambda: self._source.receive(max_bytes))

    def read(self) -> bytes:
        """Return everything up to the end of the stream. The caller's memory is the only bound."""
        return self._call(self._source.read)

    def aclose(self) -> None:
        """Take no more: what is buffered and what still comes is dropped, and the process is not held up."""
        return self._call(self._source.aclose)


class InputStream:
    """Standard input of a process. For one task at a time."""

    def __init__(self, source: process.InputStream, portal: BlockingPortal) -> None:
        """Not to be called: it belongs to a process."""
        self._source = source
        self._portal = portal

    def _call(self, call: Callable[[], Awaitable[_T]]) -> _T:
        return _in_portal(self._portal, call)

    def send(self, data: bytes | memoryview) -> None:
        """Send all of `data`; returns when the guest has room for it and it is on its way.

        Raises:
            BrokenPipeError: the process no longer reads, has ended, or this stream was closed.
            MachineLost: the machine went away.
            ProtocolError: the guest broke the protocol.
        """
        return self._call(lambda: self._source.send(data))

    def aclose(self) -> None:
        """End of file: the process reads what was sent, then the end. Idempotent."""
        return self._call(self._source.aclose)


class GuestProcess:
    """A process that runs in the guest. Take both outputs or close them: a full one stops the process."""

    def __init__(self, source: process.GuestProcess, portal: BlockingPortal) -> None:
        """Not to be called: use `machine.open`."""
        self._source = source
        self._portal = portal
        self.pid = source.pid
        self.stdin = InputStream(source.stdin, portal)
        self.stdout = OutputStream(source.stdout, portal)
        self.stderr = OutputStream(source.stderr, portal)

    def _call(self, call: Callable[[], Awaitable[_T]]) -> _T:
        return _in_portal(self._portal, call)

    def wait(self) -> ExitStatus:
        """Wait until the process has ended and all its output has come into the buffers.

        Raises:
            MachineLost: the machine went away first.
            ProtocolError: the guest broke the protocol.
        """
        return self._call(self._source.wait)

    def signal(self, signal: Signal, scope: SignalScope = SignalScope.GROUP) -> None:
        """Send a signal to the process' group or to it alone. Nothing happens once it has ended.

        Args:
            signal: a name ("TERM", "SIGTERM"), a member of Python's `signal`, or Linux' number.
            scope: whom it reaches.

        Raises:
            InvalidArgument: no such signal.
        """
        return self._call(lambda: self._source.signal(signal, scope))

    def resize(self, rows: int, columns: int) -> None:
        """Tell the process' terminal its size. Without a terminal nothing happens.

        Raises:
            InvalidArgument: a size that no terminal has.
        """
        return self._call(lambda: self._source.resize(rows, columns))


class Connection:
    """A byte stream to a TCP port or unix socket in the guest. One task may send while another receives."""

    def __init__(self, source: connection.Connection, portal: BlockingPortal) -> None:
        """Not to be called: use `machine.dial`."""
        self._source = source
        self._portal = portal

    def __enter__(self) -> Self:
        """Use the connection; it is ended on leaving."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """End it."""
        self.aclose()

    def _call(self, call: Callable[[], Awaitable[_T]]) -> _T:
        return _in_portal(self._portal, call)

    def receive(self, max_bytes: int = 65536) -> bytes:
        """Return the next bytes, at least one; `b""` once the other side has ended.

        Raises:
            MachineLost: the machine went away.
        """
        return self._call(lambda: self._source.receive(max_bytes))

    def send(self, data: bytes) -> None:
        """Send all of `data`; returns when it is on its way.

        Raises:
            BrokenPipeError: the other side has ended.
            MachineLost: the machine went away.
        """
        return self._call(lambda: self._source.send(data))

    def send_eof(self) -> None:
        """Tell the other side that nothing more will come; what it says can still be received."""
        return self._call(self._source.send_eof)

    def aclose(self) -> None:
        """End the connection. Idempotent."""
        return self._call(self._source.aclose)


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
    with _portals as portal:
        return _in_portal(
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
            portal = lease.enter_context(_portals)
            machine = lease.enter_context(
                _Opened(portal, AsyncMachine.start(image, command, reporter=reporter, **options))
            )
            return cls(machine, portal, lease.pop_all())
        raise AssertionError("unreachable")

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
        return _in_portal(self._portal, call)

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
