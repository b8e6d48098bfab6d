"""What progress is shown of: steps and their states; what a view of them is; and the plainest one.

Knows nothing of who reports: `progress` keeps the steps and picks the view.
"""

from collections.abc import Iterable
from enum import StrEnum

from propolis.cli import render

PATIENCE = 0.5
"""Seconds of work before anything is said about it."""
_REPEAT = 10.0
"""Seconds between two plain lines about the same step."""


class State(StrEnum):
    """How far a step is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    SKIPPED = "from cache"


class Step:
    """One step, as far as it has been reported."""

    __slots__ = ("done", "name", "started", "state", "subject", "told", "total")

    def __init__(self, name: str, subject: str, total: int | None, state: State, now: float) -> None:
        self.name, self.subject, self.total, self.state = name, subject, total, state
        self.done = 0
        """Bytes."""
        self.started = now
        self.told = -1.0
        """When a view last told about it, if it keeps account of that."""

    @property
    def is_open(self) -> bool:
        """Whether it is still to be done."""
        return self.state in (State.WAITING, State.RUNNING)


class View:
    """Shows steps; this one does not. Calls come one at a time, from any thread."""

    def heard(self, event: str, step: Step, now: float) -> None:
        """`event` (a method's name of `Reporter`) was reported of `step`."""

    def look(self, steps: Iterable[Step], now: float) -> None:
        """Show how things are; `steps` are those of the current spell of work, in the order of their first mention."""

    def wipe(self) -> None:
        """Leave the terminal's line to whoever prints next."""

    def notice(self, text: str) -> None:
        """Say something once."""


class Plain(View):
    """A line for a step that takes long, and another one now and then."""

    def look(self, steps: Iterable[Step], now: float) -> None:
        """See `View.look`."""
        for step in steps:
            # what moves no bytes is seldom slow, and a log should not tell of every boot
            if step.state is not State.RUNNING or now - step.started < (PATIENCE if step.done else _REPEAT):
                continue
            if step.told < 0:
                self.notice(f"{step.name} {step.subject} ...")
                step.told = now
            elif step.done and now - step.told >= _REPEAT:
                of = f" of {step.total >> 20}" if step.total else ""
                self.notice(f"{step.name} {step.subject} {step.done >> 20} MiB{of}")
                step.told = now

    def notice(self, text: str) -> None:
        """See `View.notice`."""
        render.say(text)
