"""What each operating system must offer to the rooms above, as one protocol.

`host/__init__.py` picks the implementation; nothing else in the package asks which system it runs on.
"""

from pathlib import Path
from typing import Protocol

from propolis.channel import ByteChannel


class Listener(Protocol):
    """Where other processes of this user connect to."""

    async def accept(self) -> ByteChannel:
        """Wait for the next connection.

        Raises:
            OSError: it cannot be taken; the next one may.
        """

    def close(self) -> None:
        """Listen no more. Idempotent."""


class Host(Protocol):
    """The operating-system seam. Implementations are modules; these are their functions."""

    def open_file(self, path: Path, *, create: bool, mode: int = 0o644) -> int:
        """Open a file for reading and writing; others may rename or remove it meanwhile, and so may we.

        With `create` it must not exist yet; without, it must, and be no link.

        Raises:
            OSError: as `os.open`.
        """

    def open_published(self, path: Path) -> int:
        """Open a file for reading that others may be replacing or removing.

        Raises:
            OSError: as `os.open`; on Windows, somebody keeps it from us, and not just for a moment.
        """

    def lock_file(self, descriptor: int, *, wait: bool) -> bool:
        """Lock an open file exclusively against other opens of it, also in this process.

        Returns False when `wait` is false and somebody else holds it. Released when the descriptor is closed or the
        process dies.
        """

    def publish(self, descriptor: int, path: Path, target: Path) -> None:
        """Rename the open, locked file `path` to `target`, replacing what is there; closes the descriptor in any case.

        The lock is held until the file has its new name, so that nobody takes it for a leftover.
        """

    def protect(self, path: Path) -> None:
        """Keep a file that is complete from being written by mistake, where that keeps nobody from removing it."""

    def remove_file(self, path: Path) -> None:
        """Remove a file. Gone already is fine.

        Raises:
            OSError: as `os.unlink`; on Windows, somebody has it open, and not just for a moment.
        """

    def remove_tree(self, path: Path) -> None:
        """Remove a directory and what is in it, as far as that goes. Gone already is fine."""

    def sync_directory(self, path: Path) -> None:
        """Make a rename inside `path` survive a power cut, where the system can."""

    def process_start(self, pid: int) -> str | None:
        """A string that tells this process from a later one with the same pid; None when there is no such process."""

    def kill_group(self, pid: int) -> None:
        """Kill the process group (or, where there are none, the process) that `pid` leads. Gone already is fine."""

    def kill(self, pid: int) -> None:
        """Kill one process. Gone already is fine."""

    def memory_bytes(self) -> int:
        """Memory of the host, in bytes."""

    def boot_id(self) -> str:
        """A string that changes with every boot of the host."""

    def resident_bytes(self, pid: int) -> int:
        """Resident memory of one process, in bytes; 0 when it is gone."""

    def listen(self, path: Path) -> Listener:
        """Listen under a name that only this user can reach, in a directory that is this user's alone.

        Raises:
            OSError: it cannot be made.
        """

    def connect(self, path: Path) -> ByteChannel:
        """Connect to what `listen` made.

        Raises:
            OSError: nobody listens there.
        """
