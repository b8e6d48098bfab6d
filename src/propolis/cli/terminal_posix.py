"""The user's terminal on Linux and macOS: raw mode, size, and the signals that go with them."""

import sys

assert sys.platform != "win32"

import contextlib
import os
import signal
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that a user means for the workload."""
RESIZED = signal.SIGWINCH
ENDING = (signal.SIGTERM, signal.SIGINT)
"""Signals that ask a process without a terminal to end."""


def open_signal_receiver(*numbers: int) -> AbstractContextManager[AsyncIterator[int]]:
    """As anyio's."""
    import anyio

    return anyio.open_signal_receiver(*map(signal.Signals, numbers))


def is_terminal(descriptor: int) -> bool:
    """Whether somebody can sit at it."""
    return os.isatty(descriptor)


def prepare() -> None:
    """Make our output ready for the terminal; here it is."""


@contextlib.contextmanager
def raw_mode(descriptor: int) -> Iterator[None]:
    """Hand every key to the workload for as long as the context lasts; the terminal is restored afterwards."""
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor, termios.TCSANOW)  # what was typed during the boot stays
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)  # waits for nobody who should read first
