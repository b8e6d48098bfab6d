"""This process' own standard streams, so that neither the event loop nor the end of the process waits for them.

A read from a terminal or a pipe may never return, nor a write to a reader that has stopped. Each runs in a daemon
thread, which the interpreter leaves behind when it ends; threads of a pool would keep it alive.
"""

import contextlib
import errno
import os
import select
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from propolis.errors import PropolisError, StorageFull

if sys.platform == "win32":
    from propolis.cli.terminal_windows import read
else:
    from os import read

if TYPE_CHECKING:
    import asyncio

_T = TypeVar("_T")
_CHUNK = 65536
STDIN, STDOUT, STDERR = 0, 1, 2
_NAMES = {STDIN: "standard input", STDOUT: "standard output", STDERR: "standard error"}


def ensure_open() -> None:
    """Put the null device where standard streams were closed, before a file or a socket takes their number."""
    for descriptor in _NAMES:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    # where they were closed, Python has None, and print() would take standard output in its place
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - for as long as we live
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123


async def read_stdin() -> bytes:
    """The next bytes of standard input; `b""` at its end, also when the terminal is gone. Needs asyncio.

    Raises:
        PropolisError: it cannot be read.
    """
    return await _left_behind(lambda: _read(STDIN))


def writer(descriptor: int) -> Callable[[bytes], "asyncio.Future[None]"]:
    """What writes to standard output or standard error, all it is given. Needs asyncio.

    Raises when called:
        BrokenPipeError: nobody reads it any more.
        PropolisError: it cannot be written.
    """
    return lambda data: _left_behind(lambda: _write(descriptor, data))


def _read(descriptor: int) -> bytes:
    while True:
        try:
            return read(descriptor, _CHUNK)
        except BlockingIOError:  # somebody who shares it has made it so
            select.select([descriptor], [], [])
        except OSError as error:
            if error.errno == errno.EIO:
                return b""
            raise PropolisError(f"{_NAMES[descriptor]} cannot be read: {error.strerror}") from error


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            select.select([], [descriptor], [])
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise StorageFull(
                    f"no space left on the host while writing {_NAMES[descriptor]}",
                    hint="free space where it is redirected to",
                ) from error
            if error.errno == errno.EINVAL and sys.platform == "win32":  # what the C runtime makes of a broken pipe
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from error
            raise PropolisError(f"{_NAMES[descriptor]} cannot be written: {error.strerror}") from error


def _left_behind(call: Callable[[], _T]) -> "asyncio.Future[_T]":
    future: Future[_T] = Future()
    future.set_running_or_notify_cancel()  # from here on, cancelling whoever waits leaves it alone

    def run() -> None:
        with contextlib.suppress(RuntimeError):  # the event loop may be closed by now
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
                future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="propolis-stream").start()
    from asyncio import wrap_future  # slow to load, and only who waits for streams has an event loop

    return wrap_future(future)
