"""A process in a machine in this process' place: its streams are ours, its signals, its terminal, and its exit code.

Signals that arrive before it runs end the attempt; later they are its own, but for the third Ctrl-C or termination in a
row, which gives it up. Typing the detach keys leaves it alone, if the connection is one that can be left.
"""

import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskStatus

from propolis.cli import streams, terminal
from propolis.cli.detach_keys import DetachKeys
from propolis.cli.progress import Progress

if TYPE_CHECKING:
    from propolis.agent.process import GuestProcess

_PATIENCE = 3
"""How many interrupts or terminations the process may ignore."""
_REFRESH = 0.1
"""Seconds between two looks at how long the start takes."""
_NOTICED = 0.1
"""Seconds in which a full-screen program has heard of another size and drawn itself."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A process that runs."""

    process: "GuestProcess"
    leave: Callable[[], Awaitable[None]] | None = None
    """Tells its owner that it is left alone; None where that cannot be."""


Opening = Callable[[], AbstractAsyncContextManager[Opened]]


class Foreground:
    """One process, from its start to its exit or until it is detached from."""

    def __init__(
        self,
        progress: Progress,
        *,
        tty: bool,
        interactive: bool,
        detach_keys: bytes = b"",
        redraw: bool = False,
        sig_proxy: bool = True,
    ) -> None:
        """Attach with a terminal, with our input; `redraw`: the process runs already and shall draw its screen anew.

        Without `sig_proxy`, a signal ends us and leaves the process alone.
        """
        self._progress = progress
        self._tty, self._interactive, self._redraw = tty, interactive, redraw
        self._patience = _PATIENCE if sig_proxy else 0
        self._keys = DetachKeys(detach_keys)
        self._screen = terminal.Screen()
        self._opened: Opened | None = None
        self._ended_by: int | None = None
        self._scope: anyio.CancelScope | None = None
        self.detached = False

    async def run(self, opening: Opening) -> int:
        """Run it; the exit code as a shell has it, 0 after a detach."""
        async with anyio.create_task_group() as tasks:
            self._scope = tasks.cancel_scope  # ends all of it
            await tasks.start(self._take_signals)
            tasks.start_soon(self._show_progress)
            status = await self._attach(opening)
            tasks.cancel_scope.cancel()
            return status
        return 128 + self._ended_by if self._ended_by else 0

    async def _attach(self, opening: Opening) -> int:
        async with opening() as opened:
            self._opened = opened
            self._progress.begin("first output")
            with ExitStack() as modes:
                if self._tty and self._interactive:
                    modes.enter_context(terminal.raw_mode(streams.STDIN))
                await self._resize(redraw=self._redraw)
                stdin = self._typed if self._interactive else None
                stdout, stderr = (self._timed(streams.writer(number)) for number in (streams.STDOUT, streams.STDERR))
                from propolis.machine.attach import attach

                status = await attach(opened.process, stdin, stdout, stderr)
        return status.shell_code

    async def _typed(self) -> bytes:
        while True:
            data = await streams.read_stdin()
            passed, leaves = self._keys.feed(data)
            if leaves and self._opened is not None and self._opened.leave is not None:
                if passed:
                    await self._opened.process.stdin.send(passed)
                await self._opened.leave()
                self.detached = True
                if self._tty:
                    await streams.writer(streams.STDOUT)(self._screen.left())
                self._give_up()
                await anyio.sleep_forever()
            if passed or not data:
                return passed

    def _give_up(self) -> None:
        assert self._scope is not None
        self._scope.cancel()

    def _timed(self, write: Callable[[bytes], Awaitable[None]]) -> Callable[[bytes], Awaitable[None]]:
        async def timed(data: bytes) -> None:
            self._progress.end("first output")
            self._screen.follow(data)
            await write(data)

        return timed

    async def _show_progress(self) -> None:
        while self._opened is None:  # afterwards the terminal is the process'
            self._progress.refresh()
            await anyio.sleep(_REFRESH)

    async def _resize(self, *, redraw: bool = False) -> None:
        rows, columns = terminal.ours()
        if self._opened is not None and self._tty and rows:
            if redraw:  # only another size makes a program draw all of it, and only if it has the time to see it
                await self._opened.process.resize(rows, max(columns - 1, 1))
                await anyio.sleep(_NOTICED)
            await self._opened.process.resize(rows, columns)

    async def _take_signals(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        watched = [number for number in (*terminal.FORWARDED, terminal.RESIZED) if number]
        # what we were started to ignore (nohup, a job in a script's background) is ignored on
        watched = [number for number in watched if signal.getsignal(number) is not signal.SIG_IGN]
        ignored = 0
        with terminal.open_signal_receiver(*watched) as received:
            task_status.started()
            async for number in received:
                if number == terminal.RESIZED:
                    await self._resize()
                    continue
                ignored += number in (signal.SIGINT, signal.SIGTERM)
                if self._opened is None or ignored >= self._patience:
                    self._ended_by = number
                    self._give_up()
                else:
                    await self._opened.process.signal(number)
