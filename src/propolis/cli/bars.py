"""Progress on a terminal: a bar for each layer, redrawn in place, no more of them than fit, and gone at the end.

rich makes the lines. Moving the cursor is done here: it always rests where the drawing begins, so that all of it can be
erased, whatever is typed meanwhile, and whatever most terminals do to lines when they are resized. rich's own live
display leaves it at the end, hides it, and starts a thread.
"""

import io
import os
import sys
from collections import deque
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from propolis.cli import render
from propolis.cli.progress_views import State, Step, View
from propolis.progress import UNPACK_LAYER

_WINDOW = 5.0
"""Seconds over which speed is taken."""
_LEAST_WINDOW = 0.5
_MOST_ROWS = 20
_USUAL = os.terminal_size((80, 24))
_DIGITS = 12
_WITH_BAR, _WITH_RATE = 60, 48
"""Columns from which on there is room for them."""


class _Pace:
    """How fast something grows."""

    def __init__(self, began: float) -> None:
        self._samples = deque([(began, 0)])

    def rate(self, now: float, done: int) -> float:
        """Bytes a second lately; 0 while nobody knows."""
        samples = self._samples
        samples.append((now, done))
        while samples[0][0] < now - _WINDOW:
            samples.popleft()
        seconds = now - samples[0][0]
        return (done - samples[0][1]) / seconds if seconds >= _LEAST_WINDOW else 0.0


class Bars(View):
    """Draws on standard error, which is a terminal."""

    def __init__(self) -> None:
        self._paces: dict[tuple[str, str], _Pace] = {}
        self._drawn = False

    def look(self, steps: Iterable[Step], now: float) -> None:
        """Draw all anew."""
        size = _terminal()
        console = Console(
            file=io.TextIOWrapper(io.BytesIO(), encoding=sys.stderr.encoding),  # ASCII where that is all there is
            force_terminal=True,
            force_jupyter=False,
            legacy_windows=False,
            width=max(size.columns - 1, 1),  # a full line would leave the cursor where terminals differ
            height=size.lines,
            markup=False,
            highlight=False,
            emoji=False,
        )
        with console.capture() as captured:
            console.print(self._frame(list(steps), size, now), end="", no_wrap=True, overflow="crop")
        lines = captured.get().rstrip("\n").split("\n")
        back = f"\r\x1b[{len(lines) - 1}A" if len(lines) > 1 else "\r"
        sys.stderr.write("\r" + "\x1b[K\n".join(lines) + "\x1b[J" + back)
        sys.stderr.flush()
        self._drawn = True

    def wipe(self) -> None:
        """See `View.wipe`."""
        if self._drawn:
            sys.stderr.write("\r\x1b[J")
            sys.stderr.flush()
            self._drawn = False
        self._paces.clear()

    def _frame(self, steps: Sequence[Step], size: os.terminal_size, now: float) -> Table | Text:
        rates = {step: self._rate(step, now) for step in steps if step.state is State.RUNNING}
        layers = [step for step in steps if step.name == UNPACK_LAYER]
        rows = layers + [step for step in rates if step.subject and step.name != UNPACK_LAYER]
        if not rows:
            last = [*rates][-1:]
            return _listed(last, rates, size) if any(step.done for step in last) else Text("".join(map(_label, last)))
        shown = _chosen(rows, min(size.lines - 2, _MOST_ROWS))
        frame = Table.grid()
        if len(layers) > 1:
            frame.add_row(Text(self._summary(layers, rates, now), no_wrap=True, overflow="crop"))
        if shown:
            frame.add_row(_listed(shown, rates, size))
        left = [step.state for step in rows if step not in shown]
        if left and shown:
            told = ", ".join(f"{left.count(state)} {state}" for state in State if state in left)
            frame.add_row(Text(f"and {told}", style="dim", no_wrap=True, overflow="crop"))
        return frame

    def _rate(self, step: Step, now: float) -> float:
        return self._paces.setdefault((step.name, step.subject), _Pace(step.started)).rate(now, step.done)

    def _summary(self, layers: Sequence[Step], rates: dict[Step, float], now: float) -> str:
        ready = sum(not step.is_open for step in layers)
        wanted = [step for step in layers if step.state is not State.SKIPPED]
        done, total = sum(step.done for step in wanted), sum(step.total or 0 for step in wanted)
        began = min(step.started for step in layers)
        rate = self._paces.setdefault(("", ""), _Pace(began)).rate(now, done)
        parts = [f"propolis: {ready} of {len(layers)} layers", _amount(done, total), _speed(rate)]
        return "  ".join(part for part in (*parts, _left(total - done, rate)) if part)


def _chosen(rows: Sequence[Step], room: int) -> list[Step]:
    """As many as there is room for, in their order: what goes on, what has just been done, what comes next."""
    if len(rows) <= room:
        return list(rows)
    order = (State.RUNNING, State.DONE, State.WAITING, State.SKIPPED)
    ranked = sorted(
        enumerate(rows), key=lambda item: (order.index(item[1].state), item[0] * (1, -1)[item[1].state is State.DONE])
    )
    kept = {number for number, _ in ranked[: max(room, 0)]}
    return [step for number, step in enumerate(rows) if number in kept]


def _listed(steps: Sequence[Step], rates: dict[Step, float], size: os.terminal_size) -> Table:
    with_bar, with_rate = size.columns >= _WITH_BAR, size.columns >= _WITH_RATE
    table = Table.grid(padding=(0, 1), expand=with_bar)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(size.columns // 2, 1))
    if with_bar:
        table.add_column(ratio=1, no_wrap=True, overflow="crop")
    for _ in range(3 if with_rate else 1):
        table.add_column(justify="right", no_wrap=True, overflow="crop")
    for step in steps:
        running, rate = step.state is State.RUNNING, rates.get(step, 0.0)
        bar = ProgressBar(step.total, step.done) if running and step.total else Text("" if running else step.state)
        middle = [bar] if with_bar else []
        amount = _amount(step.done, step.total) if running else _amount(step.total or 0, None)
        right = [amount if with_bar or running else str(step.state)]
        if with_rate:
            right += [_speed(rate), _left((step.total or 0) - step.done, rate)]
        table.add_row(Text(_label(step)), *middle, *map(Text, right), style="" if running else "dim")
    return table


def _label(step: Step) -> str:
    if step.name == UNPACK_LAYER:
        return render.printable(step.subject.partition(":")[2][:_DIGITS])
    return render.one_line(f"propolis: {step.name} {step.subject}")


def _amount(done: int, total: int | None) -> str:
    if not done and not total:
        return ""
    unit, name = _unit(max(done, total or 0))
    return _count(done, unit) + (f" of {_count(total, unit)}" if total else "") + f" {name}"


def _speed(rate: float) -> str:
    unit, name = _unit(rate)
    return f"{_count(rate, unit)} {name}/s" if rate else ""


def _unit(amount: float) -> tuple[int, str]:
    return (1 << 20, "MiB") if amount >= 1 << 20 else (1 << 10, "KiB")


def _count(amount: float, unit: int) -> str:
    """With one digit after the point, so that columns stay aligned; what is something is not 0.0."""
    return f"{max(amount / unit, 0.1 if amount else 0):.1f}"


def _left(missing: int, rate: float) -> str:
    if missing <= 0 or rate <= 0 or missing / rate >= 100 * 3600:
        return ""
    minutes, seconds = divmod(int(missing / rate), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _terminal() -> os.terminal_size:
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except OSError:
        return _USUAL
    return os.terminal_size((size.columns or _USUAL.columns, size.lines or _USUAL.lines))
