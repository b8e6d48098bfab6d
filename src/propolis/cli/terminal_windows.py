"""The user's console on Windows: raw mode, keys as UTF-8, size, and what stands for signals there.

Console modes follow Microsoft's "Console Virtual Terminal Sequences". What is typed is read as UTF-16, since reading
bytes gives zeros for what is not ASCII on older consoles.
"""

import sys

assert sys.platform == "win32"

import asyncio
import atexit
import codecs
import contextlib
import io
import msvcrt
import os
import signal
from collections.abc import AsyncIterator, Iterator
from types import FrameType

from propolis.host.win32 import _ffi

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
"""What a user means for the workload. Ctrl-Break, which other programs can send, too, asks for its end (SIGTERM)."""
RESIZED = 0
"""Told when the console's size has changed, of which there is no signal."""
ENDING: tuple[int, ...] = ()
"""What asks a process without a console to end: nothing does."""
_LOOK = 0.25
"""Seconds between two looks at the console's size."""
_MOST_UNITS = 8192
_END_OF_INPUT = "\x1a"
_INPUT_RAW = _ffi.ENABLE_PROCESSED_INPUT | _ffi.ENABLE_LINE_INPUT | _ffi.ENABLE_ECHO_INPUT
_OUTPUT_RAW = _ffi.ENABLE_PROCESSED_OUTPUT | _ffi.ENABLE_VIRTUAL_TERMINAL_PROCESSING

_typed = codecs.getincrementaldecoder("utf-16-le")("replace")


def prepare() -> None:
    """Let the console take UTF-8 and escape sequences until this process ends; what is redirected is UTF-8, too."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    for number in (_ffi.STD_OUTPUT_HANDLE, _ffi.STD_ERROR_HANDLE):
        with contextlib.suppress(OSError):  # it is no console
            handle = _ffi.standard_handle(number)
            mode = _ffi.console_mode(handle)
            _ffi.set_console_mode(handle, mode | _OUTPUT_RAW)
            atexit.register(_leave_mode, handle, mode)
    before = _ffi.console_output_code_page()
    if before not in (0, _ffi.CP_UTF8):
        with contextlib.suppress(OSError):
            _ffi.set_console_output_code_page(_ffi.CP_UTF8)
            atexit.register(_leave_code_page, before)


def _leave_mode(handle: int, mode: int) -> None:
    with contextlib.suppress(OSError):
        _ffi.set_console_mode(handle, mode)


def _leave_code_page(number: int) -> None:
    with contextlib.suppress(OSError):
        _ffi.set_console_output_code_page(number)


def is_terminal(descriptor: int) -> bool:
    """Whether somebody can sit at it: `os.isatty` takes NUL for a terminal, too."""
    try:
        _ffi.console_mode(msvcrt.get_osfhandle(descriptor))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def raw_mode(descriptor: int) -> Iterator[None]:
    """Hand every key to the workload for as long as the context lasts; the console is restored afterwards.

    Raises:
        OSError: the descriptor is no console's.
    """
    handle = msvcrt.get_osfhandle(descriptor)
    before = _ffi.console_mode(handle)
    _ffi.set_console_mode(handle, raw_input(before))
    try:
        yield
    finally:
        _leave_mode(handle, before)


def raw_input(mode: int) -> int:
    """The mode of a console's input in which keys come one by one, uninterpreted, as a terminal's sequences."""
    return mode & ~_INPUT_RAW | _ffi.ENABLE_VIRTUAL_TERMINAL_INPUT


def read(descriptor: int, most: int) -> bytes:
    """As `os.read`, but what is typed at a console is UTF-8, and lines end as Linux has it.

    Raises:
        OSError: it cannot be read.
    """
    handle = msvcrt.get_osfhandle(descriptor)
    try:
        mode = _ffi.console_mode(handle)
    except OSError:
        return os.read(descriptor, most)
    while True:
        text = _typed.decode(_ffi.read_console(handle, min(most // 4, _MOST_UNITS)))
        if mode & _ffi.ENABLE_LINE_INPUT:
            if text.startswith(_END_OF_INPUT):
                return b""
            text = text.replace("\r\n", "\n")
        if text:  # nothing: half a character, or Ctrl-C
            return text.encode()


@contextlib.contextmanager
def open_signal_receiver(*numbers: int) -> Iterator[AsyncIterator[int]]:
    """As anyio's, for event loops that cannot watch signals; of Ctrl-Break SIGTERM is told, and RESIZED. Needs asyncio.

    To be called in the main thread.
    """
    loop, told = asyncio.get_running_loop(), asyncio.Queue[int]()

    def tell(number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(told.put_nowait, signal.SIGTERM if number == signal.SIGBREAK else number)

    before = [(number, signal.signal(number, tell)) for number in numbers]
    try:
        yield _received(told)
    finally:
        for number, handler in before:
            signal.signal(number, handler)


async def _received(told: "asyncio.Queue[int]") -> AsyncIterator[int]:
    size = _size()
    while True:
        try:
            number = await asyncio.wait_for(told.get(), _LOOK)
        except TimeoutError:
            now = _size()
            if now == size:
                continue
            size, number = now, RESIZED
        yield number


def _size() -> tuple[int, int] | None:
    for stream in (1, 0):
        with contextlib.suppress(OSError):
            return os.get_terminal_size(stream)
    return None
