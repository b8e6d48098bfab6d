"""Everything the command line prints that is neither the workload's output nor a result asked for. To standard error.

Progress is shown on a terminal for work that takes longer than half a second, and as plain lines elsewhere.
"""

import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

_PATIENCE = 0.5
"""Seconds of work before anything is said about it."""
_REFRESH = 0.1
_USUAL_COLUMNS = 80


def show_error(message: str, hint: str) -> None:
    """One line that says what failed, one that says what to do."""
    print(f"propolis: {_one_line(message)}", file=sys.stderr)
    if hint:
        print(f"  hint: {_one_line(hint)}", file=sys.stderr)


def printable(text: str) -> str:
    """Text from images, disks and guests may hold anything; a terminal must not be steered by it."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_COLUMNS
    except OSError:
        return _USUAL_COLUMNS


@dataclass(slots=True)
class _Running:
    started: float
    total: int | None
    done: int = 0
    said: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """How long one step took, in seconds."""

    step: str
    subject: str
    seconds: float


@dataclass(slots=True)
class Progress:
    """A `propolis.progress.Reporter` for a person: silent while things are quick. Keeps the times of all steps."""

    quiet: bool = False
    timings: list[Taken] = field(default_factory=list)
    _steps: dict[tuple[str, str], _Running] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _drawn: float = 0.0
    _line: bool = False

    def begin(self, step: str, subject: str = "", total: int | None = None) -> None:
        """See `Reporter.begin`."""
        with self._lock:
            self._steps[step, subject] = _Running(time.monotonic(), total)

    def advance(self, step: str, subject: str = "", amount: int = 0) -> None:
        """See `Reporter.advance`."""
        with self._lock:
            running = self._steps.get((step, subject))
            if running is None:
                return
            running.done += amount
            now = time.monotonic()
            if not self.quiet and now - running.started >= _PATIENCE:
                self._say(step, subject, running, now)

    def refresh(self) -> None:
        """Show on a terminal which step has been going on for long; for steps that do not advance."""
        with self._lock:
            if self.quiet or not self._steps or not sys.stderr.isatty():
                return
            (step, subject), running = next(reversed(self._steps.items()))
            now = time.monotonic()
            if now - running.started >= _PATIENCE:
                self._say(step, subject, running, now)

    def wipe(self) -> None:
        """Leave the terminal's line to whoever prints next."""
        with self._lock:
            self._wipe()

    def end(self, step: str, subject: str = "") -> None:
        """See `Reporter.end`."""
        with self._lock:
            running = self._steps.pop((step, subject), None)
            if running is not None:
                self.timings.append(Taken(step, subject, time.monotonic() - running.started))
            self._wipe()

    def notice(self, text: str) -> None:
        """See `Reporter.notice`."""
        if not self.quiet:
            with self._lock:
                self._wipe()
                print(f"propolis: {_one_line(text)}", file=sys.stderr)

    def show_timings(self) -> None:
        """Print how long each step took, as a small table."""
        with self._lock:
            self._wipe()
            for taken in self.timings:
                what = f"{taken.step} {_one_line(taken.subject)}".strip()
                print(f"propolis: {taken.seconds:8.3f} s  {what}", file=sys.stderr)

    def show_boot(self, stamps: Mapping[str, int]) -> None:
        """Print when the guest came to where, by its own clock, which begins with its kernel."""
        told = {
            "init": "its init runs",
            "disks": "disks are mounted",
            "root": "the image is the root",
            "ready": "ready",
        }
        with self._lock:
            for name, what in told.items():
                if name in stamps:
                    print(f"propolis: {stamps[name] / 1000:8.3f} s  guest: {what}", file=sys.stderr)

    def _say(self, step: str, subject: str, running: _Running, now: float) -> None:
        amount = f" {running.done >> 20} MiB" + (f" of {running.total >> 20}" if running.total else "")
        text = f"propolis: {step} {_one_line(subject)}{amount if running.done else ''}"
        if not sys.stderr.isatty():
            if not running.said:
                print(f"propolis: {step} {_one_line(subject)} ...", file=sys.stderr)
            running.said = True
        elif now - self._drawn >= _REFRESH:
            print(f"\r\x1b[K{text[: _columns() - 1]}", end="", file=sys.stderr, flush=True)
            self._drawn, self._line = now, True

    def _wipe(self) -> None:
        if self._line:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._line = False
