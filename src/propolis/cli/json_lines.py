"""Progress for programs: one JSON object a line on standard error, as docs/images.md describes them.

The form has a version; fields may be added to it, none changes its meaning.
"""

import json
import sys
import time
from collections.abc import Iterable

from propolis.cli.progress_views import Step, View

VERSION = 1
_INTERVAL = 0.2
"""Seconds between two `advance` of the same step."""


def _write(event: str, **fields: object) -> None:
    line = json.dumps({"version": VERSION, "time": round(time.time(), 3), "event": event, **fields})
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def show_error(message: str, hint: str, kind: str, exit_code: int) -> None:
    """The last line of what has failed."""
    _write("error", error=kind, message=message, hint=hint, exit_code=exit_code)


class JsonLines(View):
    """Every event a line, but for those that follow too fast on one another."""

    def heard(self, event: str, step: Step, now: float) -> None:
        """See `View.heard`."""
        if event == "advance" and now - max(step.told, step.started) < _INTERVAL:
            return
        step.told = now
        _write(event, step=step.name, subject=step.subject, done=step.done, total=step.total)

    def look(self, steps: Iterable[Step], now: float) -> None:
        """Time alone is no event."""

    def notice(self, text: str) -> None:
        """See `View.notice`."""
        _write("notice", message=text)
