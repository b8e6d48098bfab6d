"""How the command line shows work: a `propolis.progress.Reporter` that knows the state of all steps, and its views.

On a terminal a bar for each layer (`bars`, which alone needs rich and is imported when something has taken long enough
to be drawn), elsewhere plain lines or JSON (`json_lines`); always on standard error, as standard output is for results.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple, TypeVar

import click

from propolis.cli import render
from propolis.cli.progress_views import PATIENCE, Plain, State, Step, View
from propolis.errors import InvalidArgument

_REFRESH = 0.1

_Command = TypeVar("_Command", bound=Callable[..., object])


class Mode(StrEnum):
    """How progress is shown."""

    AUTO = "auto"
    """Bars on a terminal that can move its cursor, else plain."""
    BARS = "bars"
    PLAIN = "plain"
    JSON = "json"
    NONE = "none"
    """Notices are not shown either."""


class Taken(NamedTuple):
    """How long one step took, in seconds."""

    step: str
    subject: str
    seconds: float


class _OnTerminal(View):
    """Bars, once there is reason to draw them."""

    def __init__(self) -> None:
        self._bars: View | None = None
        self._busy_since: float | None = None
        self._drawn = 0.0

    def look(self, steps: Iterable[Step], now: float) -> None:
        found = [*steps]
        if not any(step.is_open for step in found):
            self._busy_since = None
            self.wipe()
            return
        if self._busy_since is None:
            self._busy_since = now
        if now - self._busy_since < PATIENCE or now - self._drawn < _REFRESH:
            return
        if self._bars is None:
            from propolis.cli.bars import Bars

            self._bars = Bars()
        self._bars.look(found, now)
        self._drawn = now

    def wipe(self) -> None:
        if self._bars is not None:
            self._bars.wipe()

    def notice(self, text: str) -> None:
        self.wipe()
        render.say(text)


class Progress:
    """See `propolis.progress.Reporter`; keeps the times of all steps, whatever is shown."""

    def __init__(self, mode: Mode = Mode.AUTO) -> None:
        """Nothing is shown before there is something to show."""
        self.timings: list[Taken] = []
        self._view = _view(mode)
        self._steps: dict[tuple[str, str], Step] = {}
        self._lock = threading.Lock()
        self._closed = False

    def expect(self, step: str, subject: str = "", total: int | None = None) -> None:
        """See `Reporter.expect`."""
        with self._lock:
            if (step, subject) not in self._steps:
                now = time.monotonic()
                self._steps[step, subject] = Step(step, subject, total, State.WAITING, now)
                self._tell("expect", self._steps[step, subject], now)

    def begin(self, step: str, subject: str = "", total: int | None = None) -> None:
        """See `Reporter.begin`."""
        with self._lock:
            now = time.monotonic()
            known = self._steps.setdefault((step, subject), Step(step, subject, total, State.RUNNING, now))
            known.state, known.total, known.started, known.done = State.RUNNING, total, now, 0
            self._tell("begin", known, now)

    def advance(self, step: str, subject: str = "", amount: int = 0) -> None:
        """See `Reporter.advance`."""
        with self._lock:
            known = self._steps.get((step, subject))
            if known is not None and known.state is State.RUNNING and amount:
                known.done += amount
                self._tell("advance", known, time.monotonic())

    def end(self, step: str, subject: str = "") -> None:
        """See `Reporter.end`."""
        with self._lock:
            known = self._steps.get((step, subject))
            if known is not None and known.state is State.RUNNING:
                now = time.monotonic()
                known.state = State.DONE
                self.timings.append(Taken(step, subject, now - known.started))
                self._tell("end", known, now)

    def skip(self, step: str, subject: str = "") -> None:
        """See `Reporter.skip`."""
        with self._lock:
            known = self._steps.get((step, subject))
            if known is not None and known.state is State.WAITING:  # the image may have the same layer twice
                known.state = State.SKIPPED
                self._tell("skip", known, time.monotonic())

    def notice(self, text: str) -> None:
        """See `Reporter.notice`."""
        with self._lock:
            if not self._closed:
                self._view.notice(text)

    def refresh(self) -> None:
        """Show how things are; to be called now and then, for steps that do not advance."""
        with self._lock:
            if not self._closed:
                self._view.look(self._steps.values(), time.monotonic())

    def close(self) -> None:
        """Leave the terminal as it was; nothing is shown from now on. Idempotent."""
        with self._lock:
            self._view.wipe()
            self._closed = True

    def show_timings(self) -> None:
        """Print how long each step took, as a small table."""
        with self._lock:
            self._view.wipe()
            for taken in self.timings:
                render.say(f"{taken.seconds:8.3f} s  {f'{taken.step} {taken.subject}'.strip()}", indented=True)

    def show_boot(self, stamps: Mapping[str, int]) -> None:
        """Print when the guest came to where, by its own clock, which begins with its kernel."""
        told = {
            "init": "its init runs",
            "disks": "disks are mounted",
            "root": "the image is the root",
            "ready": "ready",
        }
        for name, what in told.items():
            if name in stamps:
                render.say(f"{stamps[name] / 1000:8.3f} s  guest: {what}", indented=True)

    def _tell(self, event: str, step: Step, now: float) -> None:
        if self._closed:
            return
        self._view.heard(event, step, now)
        self._view.look(self._steps.values(), now)
        if not step.is_open and not any(known.is_open for known in self._steps.values()):
            self._steps.clear()


def _view(mode: Mode) -> View:
    on_terminal = sys.stderr.isatty()
    if mode is Mode.NONE:
        return View()
    if mode is Mode.JSON:
        from propolis.cli.json_lines import JsonLines

        return JsonLines()
    if mode is Mode.BARS and not on_terminal:
        raise InvalidArgument("standard error is no terminal to draw bars on", hint="leave out --progress bars")
    if mode is Mode.BARS or (mode is Mode.AUTO and on_terminal and os.environ.get("TERM") != "dumb"):
        return _OnTerminal()
    return Plain()


def progress_options(command: _Command) -> _Command:
    """Give a command `--progress` and `-q`; it gets a `Mode` as `progress`."""
    quiet = click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_quiet, help="--progress none")
    shown = click.option(
        "--progress",
        metavar="|".join(Mode),
        default=Mode.AUTO,
        callback=_mode,
        help="How to show it, on standard error. [default: auto]",
    )
    return shown(quiet(command))


def _quiet(context: click.Context, _parameter: click.Parameter, given: bool) -> None:
    context.meta[__name__] = given


def _mode(context: click.Context, _parameter: click.Parameter, given: str) -> Mode:
    if given not in list(Mode):
        raise InvalidArgument(f"--progress {given[:40]} is not known", hint=f"choose {', '.join(Mode)}")
    mode = Mode.NONE if context.meta.get(__name__) else Mode(given)
    if mode is Mode.JSON:
        from propolis.cli.json_lines import show_error

        render.present_errors(show_error)
    return mode
