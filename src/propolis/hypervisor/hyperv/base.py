"""What this backend needs of the system it runs on, as one protocol: Windows, or the stand-in that tests bring."""

import socket
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from propolis.hypervisor.hyperv._ffi import ComputeCore


class ConsolePipe(Protocol):
    """The host's end of a machine's serial port."""

    @property
    def path(self) -> str:
        """What the machine's document calls it."""

    def close(self) -> None:
        """Stop reading and remove it. Idempotent."""


class Platform(Protocol):
    """The system. Making one asks nothing of it."""

    def library(self) -> ComputeCore:
        """The Host Compute Service's library, loaded.

        Raises:
            BackendUnavailable: it is not there.
        """

    def build(self) -> int:
        """Windows' build number."""

    def user_sid(self) -> str:
        """The calling user, as S-1-..."""

    def user_token(self) -> AbstractContextManager[int]:
        """An access token with the calling user's rights, as a handle that is valid inside the context.

        Raises:
            OSError: refused.
        """

    def console(self, name: str, take: Callable[[bytes], None]) -> ConsolePipe:
        """Serve a pipe of that name, new and private to this user and virtual machines.

        `take` is called from a thread.

        Raises:
            OSError: the name is taken, or refused.
        """

    def listen(self, vm_id: uuid.UUID, service_id: uuid.UUID) -> socket.socket:
        """A socket that is bound and listens for one service of one machine.

        Raises:
            PropolisError: refused.
        """

    def reach(self, path: Path) -> Path:
        """Where the account of a virtual machine finds this file or directory.

        Raises:
            BackendError: it is missing, or Hyper-V would refuse it; says why, and how to mend it.
        """
