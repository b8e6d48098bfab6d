"""What a finished process leaves: its exit code and its output."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A finished process."""

    exit_code: int
    """As a shell has it: 128 plus the signal for a process that a signal ended."""
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are not UTF-8 become replacement characters."""
        return self.stdout.decode(errors="replace")
