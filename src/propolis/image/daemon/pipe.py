"""A container engine behind a named pipe of Windows, as far as HTTP has to do with it. Knows nothing of HTTP."""

import errno
import io
import time
from pathlib import Path

_POLL = 0.05
"""Seconds."""


class Pipe:
    """A named pipe of Windows, or another file with two ways, as the part of a socket that HTTP uses."""

    def __init__(self, path: Path, seconds: float) -> None:
        """Connect; one that is busy is waited for, `seconds` at most.

        Raises:
            OSError: there is none, or it stays busy.
        """
        until = time.monotonic() + seconds
        while True:
            try:
                self._file = path.open("r+b", buffering=0)
            except OSError as error:
                # what C's library makes of ERROR_PIPE_BUSY: the server has yet to open the pipe for one more
                if error.errno != errno.EINVAL or time.monotonic() > until:
                    raise
                time.sleep(_POLL)
            else:
                return

    def settimeout(self, _seconds: float) -> None:
        """Not to be had: whoever waits has to bound it from outside."""

    def sendall(self, data: bytes) -> None:
        """As a socket's."""
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]

    def makefile(self, _mode: str) -> io.BufferedReader:
        """As a socket's, for reading."""
        return io.BufferedReader(self._file)

    def shutdown(self, _how: int) -> None:
        """Not to be had: whoever still reads, reads on."""

    def close(self) -> None:
        """Left to the reader, which shares the file."""
