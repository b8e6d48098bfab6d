"""How long work tells whoever watches. Events, never text: drawing is the command line's.

Rooms take a `Reporter` and may call it from any thread. The default hears nothing.
"""

from typing import Protocol


class Reporter(Protocol):
    """Hears about steps of work. Calls must be quick and may come from any thread."""

    def begin(self, step: str, subject: str = "", total: int | None = None) -> None:
        """Work on `step` ("convert layer", "boot", ...) has begun; `total` is in bytes where it is known."""

    def advance(self, step: str, subject: str = "", amount: int = 0) -> None:
        """`amount` more bytes of the step are done."""

    def end(self, step: str, subject: str = "") -> None:
        """The step is done. Not called when it fails."""

    def notice(self, text: str) -> None:
        """Something the user should know once, for example that no hardware acceleration is in use."""


class Silent:
    """A reporter that hears nothing."""

    def begin(self, step: str, subject: str = "", total: int | None = None) -> None:
        """Ignore it."""

    def advance(self, step: str, subject: str = "", amount: int = 0) -> None:
        """Ignore it."""

    def end(self, step: str, subject: str = "") -> None:
        """Ignore it."""

    def notice(self, text: str) -> None:
        """Ignore it."""
