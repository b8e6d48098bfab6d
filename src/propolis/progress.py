"""How long work tells whoever watches. Events, never text: drawing is the command line's.

Rooms take a `Reporter` and may call it from any thread. The default hears nothing; whoever draws their own begins with
`Silent` and overrides what they want to hear.
"""

from typing import Protocol, Self

UNPACK_LAYER = "unpack layer"
"""The step that makes a layer's disk, from the first byte fetched; its subject is the diff_id, its amount in bytes of
the blob."""


class Reporter(Protocol):
    """Hears about steps of work, each known by its name and what it is about.

    Calls must be quick and may come from any thread. What is raised in them ends the work.
    """

    def expect(self, step: str, subject: str = "", total: int | None = None) -> None:
        """`step` may be needed; `begin` or `skip` follows when its turn has come. `total` is as for `begin`."""

    def begin(self, step: str, subject: str = "", total: int | None = None) -> None:
        """Work on `step` ("unpack layer", "boot", ...) has begun; `total` is in bytes where it is known."""

    def advance(self, step: str, subject: str = "", amount: int = 0) -> None:
        """`amount` more bytes of the step are done."""

    def end(self, step: str, subject: str = "") -> None:
        """The step is done. Not called when it fails."""

    def skip(self, step: str, subject: str = "") -> None:
        """What the expected step makes is there already."""

    def notice(self, text: str) -> None:
        """Something the user should know once, for example that no hardware acceleration is in use."""


class Silent:
    """A reporter that hears nothing."""

    def expect(self, step: str, subject: str = "", total: int | None = None) -> None:
        """Ignore it."""

    def begin(self, step: str, subject: str = "", total: int | None = None) -> None:
        """Ignore it."""

    def advance(self, step: str, subject: str = "", amount: int = 0) -> None:
        """Ignore it."""

    def end(self, step: str, subject: str = "") -> None:
        """Ignore it."""

    def skip(self, step: str, subject: str = "") -> None:
        """Ignore it."""

    def notice(self, text: str) -> None:
        """Ignore it."""


class Revoked(Exception):
    """Raised in threads whose work nobody waits for any more."""


class Revocable:
    """A reporter for work in threads: once its context has been left, the work ends at its next report."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._revoked = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._revoked = True

    def expect(self, step: str, subject: str = "", total: int | None = None) -> None:
        """Pass it on."""
        self._check()
        self._reporter.expect(step, subject, total)

    def begin(self, step: str, subject: str = "", total: int | None = None) -> None:
        """Pass it on."""
        self._check()
        self._reporter.begin(step, subject, total)

    def advance(self, step: str, subject: str = "", amount: int = 0) -> None:
        """Pass it on."""
        self._check()
        self._reporter.advance(step, subject, amount)

    def end(self, step: str, subject: str = "") -> None:
        """Pass it on."""
        self._check()
        self._reporter.end(step, subject)

    def skip(self, step: str, subject: str = "") -> None:
        """Pass it on."""
        self._check()
        self._reporter.skip(step, subject)

    def notice(self, text: str) -> None:
        """Pass it on."""
        self._check()
        self._reporter.notice(text)

    def _check(self) -> None:
        if self._revoked:
            raise Revoked
