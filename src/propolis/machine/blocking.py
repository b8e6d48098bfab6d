"""A running machine without async: derived from `handle` by tools/gen_blocking.py; do not edit.

Each call runs its coroutine in an event loop in a thread of its own, shared by all machines of the process.
"""

import atexit
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self, TypeVar, Unpack

import anyio
from anyio.from_thread import BlockingPortal, BlockingPortalProvider

from propolis.errors import MachineLost
from propolis.machine.handle import STOP_TIMEOUT, AsyncMachine, arun
from propolis.machine.options import MachineOptions
from propolis.machine.result import Result
from propolis.progress import Reporter

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


def run(
    image: str,
    command: Sequence[str] | None = None,
    *,
    input: bytes | None = None,
    timeout: float | None = None,
    reporter: Reporter | None = None,
    **options: Unpack[MachineOptions],
) -> Result:
    """Run an image's workload to its end in a machine of its own; collect its output.

    Args:
        image: reference of the image, as on the command line.
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
        image: str,
        command: Sequence[str] | None = None,
        *,
        reporter: Reporter | None = None,
        **options: Unpack[MachineOptions],
    ) -> Self:
        """Start a machine and its workload; stop it on leaving the context.

        The workload's output is kept as `logs`; it reads end of file.

        Args:
            image: reference of the image, as on the command line.
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

    def exec(
        self,
        argv: Sequence[str],
        *,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        working_dir: str | None = None,
        user: str | None = None,
        tty: bool = False,
        timeout: float | None = None,
    ) -> Result:
        """Run one more process in the machine to its end; collect its output.

        Environment, working directory and user are the workload's unless given; `env` is added to it by name.

        Raises:
            CommandNotFound, CommandNotExecutable, ProcessError: it could not be started.
            DeadlineExceeded: `timeout` seconds ran out; the process has been killed.
            MachineLost: the machine went away.
        """
        return self._call(
            lambda: self._machine.exec(
                argv, input=input, env=env, working_dir=working_dir, user=user, tty=tty, timeout=timeout
            )
        )

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the workload's end and return its exit code; the machine stays up.

        Raises:
            DeadlineExceeded: it still runs after `timeout` seconds.
            MachineLost: the machine went away first.
        """
        return self._call(lambda: self._machine.wait(timeout))

    def signal(self, number: int) -> None:
        """Send a signal to the workload's process group. Does nothing once it has ended."""
        return self._call(lambda: self._machine.signal(number))

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
