import io
import os
import re
from types import SimpleNamespace

import pytest

from propolis.cli import render
from propolis.cli.render import Progress


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(render, "time", clock)
    return clock


@pytest.fixture
def said(monkeypatch):
    """Standard error as a file."""
    file = io.StringIO()
    monkeypatch.setattr(render, "sys", SimpleNamespace(stderr=file))
    return file.getvalue


@pytest.fixture
def drawn(monkeypatch):
    """Standard error as a terminal; what has come out of it."""
    master, slave = pytest.importorskip("pty", exc_type=ImportError).openpty()
    with os.fdopen(slave, "w") as file:
        monkeypatch.setattr(render, "sys", SimpleNamespace(stderr=file))
        yield lambda: file.flush() or os.read(master, 65536).decode()
    os.close(master)


def test_what_is_quick_is_not_mentioned(clock, said):
    progress = Progress()
    progress.begin("convert", "layer", 10)
    clock.now += 0.4
    progress.advance("convert", "layer", 5)
    progress.refresh()
    progress.end("convert", "layer")
    assert said() == ""


def test_without_a_terminal_a_long_step_is_one_plain_line(clock, said):
    progress = Progress()
    progress.begin("convert", "layer\x1b[2J", 10)
    for _ in range(5):
        clock.now += 1
        progress.advance("convert", "layer\x1b[2J", 2)
        progress.refresh()
    progress.end("convert", "layer\x1b[2J")
    assert said() == "propolis: convert layer?[2J ...\n"


def test_on_a_terminal_the_line_is_redrawn_and_wiped(clock, drawn):
    progress = Progress()
    progress.begin("convert", "layer", 4 << 20)
    clock.now += 1
    progress.advance("convert", "layer", 1 << 20)
    assert drawn() == "\r\x1b[Kpropolis: convert layer 1 MiB of 4"
    clock.now += 0.01
    progress.advance("convert", "layer", 1 << 20)
    clock.now += 1
    progress.refresh()
    assert drawn() == "\r\x1b[Kpropolis: convert layer 2 MiB of 4"
    progress.end("convert", "layer")
    assert drawn() == "\r\x1b[K"


def test_a_failed_step_leaves_the_line_free_for_the_error(clock, drawn):
    progress = Progress()
    progress.begin("boot")
    clock.now += 1
    progress.refresh()
    progress.wipe()
    assert re.fullmatch(r"\r\x1b\[Kpropolis: boot *\r\x1b\[K", drawn())


def test_quiet_is_silent_but_keeps_the_times(clock, said):
    progress = Progress(quiet=True)
    progress.begin("boot")
    clock.now += 3
    progress.advance("boot")
    progress.refresh()
    progress.notice("not accelerated")
    progress.end("boot")
    assert said() == ""
    assert [(taken.step, taken.seconds) for taken in progress.timings] == [("boot", 3)]


def test_times_are_a_table(clock, said):
    progress = Progress()
    progress.begin("boot")
    clock.now += 1.5
    progress.end("boot")
    progress.show_timings()
    assert said() == "propolis:    1.500 s  boot\n"


def test_steps_that_were_never_begun_are_no_fault(said):
    Progress().advance("x")
    Progress().end("x")
    assert said() == ""
