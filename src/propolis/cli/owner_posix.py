"""The owner's process on Linux and macOS: a fork of the front end, early, before there is a thread or an event loop.

The connection is a pair of sockets, and the owner leads a session without a terminal.
"""

import sys

assert sys.platform != "win32"

import os
import socket
from contextlib import suppress

from propolis.channel import ByteChannel
from propolis.cli import streams
from propolis.cli.main import leave, outcome
from propolis.cli.owning import PARTING, Wanted, own, to_nowhere
from propolis.errors import MachineLost
from propolis.host.sockets import channel


class OwnerProcess:
    """The owner, as the front end has it."""

    def __init__(self, pid: int, front: socket.socket) -> None:
        self._pid, self._front = pid, front
        self._ended = 0

    @property
    def channel(self) -> ByteChannel:
        """The connection with it."""
        return channel(self._front)

    def close(self) -> None:
        """End the connection: the terminal was given back. Idempotent."""
        self._front.close()

    def wait(self) -> None:
        """Wait for its end."""
        self._ended = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def exit_code(self) -> int:
        """What it has ended with.

        Raises:
            MachineLost: it was killed.
        """
        if self._ended < 0:
            raise MachineLost(
                f"the process that owned the machine was killed by signal {-self._ended}; the machine went with it"
            )
        return self._ended


def start(wanted: Wanted) -> OwnerProcess:
    """Start the owner of what is wanted."""
    front, back = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        front.close()
        leave(outcome(lambda: own(wanted, _FrontEnd(back))))
    back.close()
    return OwnerProcess(pid, front)


class _FrontEnd:
    """See `owning.FrontEnd`."""

    def __init__(self, back: socket.socket) -> None:
        self._lifeline = back.dup()
        self.channel = channel(back)

    def let_go(self) -> None:
        to_nowhere(streams.STDIN, streams.STDERR)

    def part(self) -> None:
        with self._lifeline, suppress(OSError):
            self._lifeline.shutdown(socket.SHUT_WR)
            self._lifeline.settimeout(PARTING)
            while self._lifeline.recv(65536):
                pass
