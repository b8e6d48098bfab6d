"""The user's terminal on Windows: signals of the C runtime; raw mode is not there yet."""

import sys

assert sys.platform == "win32"

import contextlib
import signal
from collections.abc import Iterator

from propolis.errors import Unsupported

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
"""Signals that a user means for the workload."""
RESIZED = None
DETACHABLE = False
"""Whether a machine can go on without the terminal it was started on."""


@contextlib.contextmanager
def raw_mode(descriptor: int) -> Iterator[None]:
    """See the POSIX twin.

    Raises:
        Unsupported: always; the console's modes are not driven yet.
    """
    raise Unsupported("-t is not supported on a Windows console yet", hint=f"leave it out (descriptor {descriptor})")
    yield
