import io
import json
import os
import re
from types import SimpleNamespace

import pytest

from propolis.cli import bars, json_lines, progress, render
from propolis.cli.progress import Mode, Progress
from propolis.errors import InvalidArgument
from propolis.progress import UNPACK_LAYER

SHORT = [f"{number + 1:03}000000000" for number in range(127)]
LAYERS = [f"sha256:{short:0<64}" for short in SHORT]


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now

    def time(self):
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    for module in (progress, json_lines):
        monkeypatch.setattr(module, "time", clock)
    return clock


def redirect(monkeypatch, file):
    for module in (render, progress, json_lines, bars):
        monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=file))


@pytest.fixture
def said(monkeypatch):
    """Standard error as a file."""
    file = io.StringIO()
    redirect(monkeypatch, file)
    return file.getvalue


class Screen:
    """What a terminal with standard error on it shows. It wraps anew when it is made narrower, as most do."""

    encoding = "utf-8"

    def __init__(self, lines, columns):
        import pty

        self._master, self._slave = pty.openpty()
        self.raw = ""
        self.rows, self.row, self.column = [""], 0, 0
        self.resize(lines, columns)

    def close(self):
        os.close(self._master)
        os.close(self._slave)

    def isatty(self):
        return os.isatty(self._slave)

    def fileno(self):
        return self._slave

    def flush(self):
        pass

    def write(self, text):
        data = text.encode()
        came = b""
        for start in range(0, len(data), 1024):
            piece = data[start : start + 1024]
            os.write(self._slave, piece)
            until = len(came) + len(piece) + piece.count(b"\n")  # each comes with a carriage return
            while len(came) < until:
                came += os.read(self._master, 8192)
        self.raw += came.decode()

    def resize(self, lines, columns):
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.lines, self.columns = lines, columns
        above = self._wrapped(self.rows[: self.row])
        self.rows = [*above, *self._wrapped(self.rows[self.row :])][: max(lines, len(above) + 1)]
        self.row = len(above)  # the cursor, always at the beginning of a line, goes with what it stands on

    def _wrapped(self, rows):
        return [row[at : at + self.columns] for row in rows for at in range(0, len(row) or 1, self.columns)]

    def text(self):
        data, self.raw = self.raw, ""
        for control, parameter, final, plain in re.findall(r"(\x1b\[([0-9;?]*)([A-Za-z]))|([^\x1b])", data):
            if control:
                self._control(final, int(parameter or 1) if final == "A" else 0)
            else:
                self._put(plain)
        assert len(self.rows) <= self.lines, "it scrolled"
        return "\n".join(row.rstrip() for row in self.rows).rstrip("\n")

    def _control(self, final, count):
        if final == "A":
            self.row = max(self.row - count, 0)
        elif final in "JK":
            self.rows[self.row] = self.rows[self.row][: self.column]
            self.rows[self.row + 1 :] = self.rows[self.row + 1 :] if final == "K" else []
        else:
            assert final == "m", final

    def _put(self, character):
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.row += 1
            if self.row == len(self.rows):
                self.rows.append("")
        else:
            assert self.column < self.columns, "a line is too long"
            row = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = row[: self.column] + character + row[self.column + 1 :]
            self.column += 1


@pytest.fixture
def screen(monkeypatch):
    """Standard error as a terminal, 24 by 80."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    pytest.importorskip("pty", exc_type=ImportError)
    screen = Screen(24, 80)
    redirect(monkeypatch, screen)
    yield screen
    screen.close()


def test_what_is_quick_is_not_mentioned(clock, said):
    shown = Progress()
    shown.begin("convert", "layer", 10)
    clock.now += 0.4
    shown.advance("convert", "layer", 5)
    shown.refresh()
    shown.end("convert", "layer")
    assert said() == ""


def test_nor_is_it_on_a_terminal(clock, screen):
    shown = Progress()
    shown.expect(UNPACK_LAYER, LAYERS[0], 10)
    shown.begin(UNPACK_LAYER, LAYERS[0], 10)
    clock.now += 0.4
    shown.refresh()
    shown.end(UNPACK_LAYER, LAYERS[0])
    clock.now += 10
    shown.begin("boot")
    clock.now += 0.4
    shown.refresh()
    shown.end("boot")
    assert screen.text() == ""


def test_without_a_terminal_a_long_step_is_a_line_now_and_then(clock, said):
    shown = Progress()
    shown.begin("convert", "layer\x1b[2J", 100 << 20)
    for _ in range(20):
        clock.now += 1
        shown.advance("convert", "layer\x1b[2J", 2 << 20)
        shown.refresh()
    shown.end("convert", "layer\x1b[2J")
    assert said() == "propolis: convert layer?[2J ...\npropolis: convert layer?[2J 22 MiB of 100\n"


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(clock, screen, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    shown = Progress()
    shown.begin("boot")
    clock.now += 9
    shown.refresh()
    assert screen.text() == ""
    clock.now += 1
    shown.refresh()
    assert screen.text() == "propolis: boot ..."


def test_bars_want_a_terminal(said):
    with pytest.raises(InvalidArgument, match="no terminal"):
        Progress(Mode.BARS)


def test_each_layer_has_its_line(clock, screen):
    shown = Progress()
    for number in range(5):
        shown.expect(UNPACK_LAYER, LAYERS[number], 10 << 20)
    shown.skip(UNPACK_LAYER, LAYERS[0])
    for number in (1, 2):
        shown.begin(UNPACK_LAYER, LAYERS[number], 10 << 20)
    for _ in range(10):
        clock.now += 0.5
        shown.advance(UNPACK_LAYER, LAYERS[1], 1 << 20)
        shown.advance(UNPACK_LAYER, LAYERS[2], 512 << 10)
        shown.refresh()
    shown.end(UNPACK_LAYER, LAYERS[1])
    clock.now += 1
    shown.refresh()
    lines = screen.text().splitlines()
    assert lines[0] == "propolis: 2 of 5 layers  15.0 of 40.0 MiB  2.5 MiB/s  0:10"
    assert re.fullmatch(rf"{SHORT[0]} from cache +10.0 MiB", lines[1])
    assert re.fullmatch(rf"{SHORT[1]} done +10.0 MiB", lines[2])
    assert re.fullmatch(rf"{SHORT[2]} [━╸╺]+ 5.0 of 10.0 MiB 921.6 KiB/s 0:05", lines[3])
    assert re.fullmatch(rf"{SHORT[3]} waiting +10.0 MiB", lines[4])
    assert len(lines) == 6
    shown.close()
    assert screen.text() == ""


def test_small_layers_have_sizes_too_and_columns_stay_aligned(clock, screen):
    sizes = (32, 1536, (1 << 20) - 1, 1 << 20, 10 << 20)
    shown = Progress()
    for layer, size in zip(LAYERS, sizes, strict=False):
        shown.expect(UNPACK_LAYER, layer, size)
        shown.begin(UNPACK_LAYER, layer, size)
    clock.now += 1
    for layer, size in zip(LAYERS, sizes, strict=False):
        shown.advance(UNPACK_LAYER, layer, size // 2)
    clock.now += 1
    shown.refresh()
    lines = screen.text().splitlines()[1:]
    told = (
        "0.1 of 0.1 KiB 0.1 KiB/s",
        "0.8 of 1.5 KiB 0.4 KiB/s",
        "512.0 of 1024.0 KiB 256.0 KiB/s",
        "0.5 of 1.0 MiB 256.0 KiB/s",
        "5.0 of 10.0 MiB 2.5 MiB/s",
    )
    for line, text in zip(lines, told, strict=True):
        assert text in " ".join(line.split())
    assert len({line.index("iB ") for line in lines}) == len({line.index("iB/s") for line in lines}) == 1


@pytest.mark.parametrize(("lines", "columns"), [(24, 80), (8, 200), (10, 40), (3, 20), (2, 10), (1, 1), (60, 100)])
def test_many_layers_fit_on_any_terminal(clock, screen, lines, columns):
    screen.resize(lines, columns)
    shown = Progress()
    for layer in LAYERS:
        shown.expect(UNPACK_LAYER, layer, 10 << 20)
    for number, layer in enumerate(LAYERS):
        shown.begin(UNPACK_LAYER, layer, 10 << 20)
        clock.now += 0.3
        shown.advance(UNPACK_LAYER, layer, 10 << 20)
        if lines >= 3 and number > 2:
            assert f"{number} of 127 layers"[: columns - 12] in screen.text()
            assert SHORT[number][: columns // 4] in screen.text()
        assert len(screen.text().splitlines()) <= min(lines, 22)
        shown.end(UNPACK_LAYER, layer)
    assert screen.text() == ""


def test_a_narrowed_terminal_is_left_clean(clock, screen):
    screen._put("$")
    screen._put("\n")
    screen.column = 0
    shown = Progress()
    for layer in LAYERS[:4]:
        shown.expect(UNPACK_LAYER, layer, 10 << 20)
        shown.begin(UNPACK_LAYER, layer, 10 << 20)
    for columns in (80, 30, 45, 120):
        screen.resize(24, columns)
        clock.now += 1
        shown.refresh()
        assert len(screen.text().splitlines()) == 6
    screen.resize(24, 33)
    shown.close()
    assert screen.text() == "$"


def test_the_last_thing_begun_is_shown_where_there_are_no_layers(clock, screen):
    shown = Progress()
    shown.begin("prepare kernel")
    shown.begin("download kernel", "linux\x1b[2J", 4 << 20)
    clock.now += 1
    shown.advance("download kernel", "linux\x1b[2J", 1 << 20)
    clock.now += 1
    shown.refresh()
    assert re.fullmatch(r"propolis: download kernel linux\?\[2J [━╸╺]+ 1.0 of 4.0 MiB +512.0 KiB/s 0:06", screen.text())
    shown.end("download kernel", "linux\x1b[2J")
    clock.now += 1
    shown.refresh()
    assert screen.text() == "propolis: prepare kernel"


def test_a_notice_stands_above_the_bars(clock, screen):
    shown = Progress()
    shown.begin("boot")
    clock.now += 1
    shown.refresh()
    shown.notice("not accelerated")
    clock.now += 1
    shown.refresh()
    assert screen.text() == "propolis: not accelerated\npropolis: boot"
    shown.close()
    shown.refresh()
    shown.notice("nobody hears it")
    assert screen.text() == "propolis: not accelerated"


@pytest.mark.parametrize(("value", "coloured"), [(None, True), ("1", False)])
def test_no_color_is_heeded(clock, screen, monkeypatch, value, coloured):
    if value is not None:
        monkeypatch.setenv("NO_COLOR", value)
    shown = Progress()
    shown.begin(UNPACK_LAYER, LAYERS[0], 4)
    clock.now += 1
    shown.advance(UNPACK_LAYER, LAYERS[0], 2)
    assert ("\x1b[38;" in screen.raw) is coloured


def test_none_is_silent_but_keeps_the_times(clock, said):
    shown = Progress(Mode.NONE)
    shown.begin("boot")
    clock.now += 3
    shown.advance("boot")
    shown.refresh()
    shown.notice("not accelerated")
    shown.end("boot")
    assert said() == ""
    assert shown.timings == [("boot", "", 3)]


def test_times_are_a_table(clock, said):
    shown = Progress()
    shown.begin("boot")
    clock.now += 1.5
    shown.end("boot")
    shown.show_timings()
    shown.show_boot({"ready": 250})
    assert said() == "propolis:    1.500 s  boot\npropolis:    0.250 s  guest: ready\n"


def test_steps_that_were_never_begun_are_no_fault(said):
    Progress().advance("x", amount=3)
    Progress().end("x")
    Progress().skip("x")
    assert said() == ""


def test_json_is_an_event_a_line(clock, said):
    shown = Progress(Mode.JSON)
    shown.expect(UNPACK_LAYER, LAYERS[0], 100)
    shown.expect(UNPACK_LAYER, LAYERS[1], 7)
    shown.begin(UNPACK_LAYER, LAYERS[0], 100)
    for _ in range(50):
        clock.now += 0.01
        shown.advance(UNPACK_LAYER, LAYERS[0], 2)
    shown.end(UNPACK_LAYER, LAYERS[0])
    shown.skip(UNPACK_LAYER, LAYERS[1])
    shown.notice("two\nlines")
    json_lines.show_error("it broke", "mend it", "ImageInvalid", 125)
    told = [json.loads(line) for line in said().splitlines()]
    assert {line.pop("version") for line in told} == {1}
    assert all(100 <= line.pop("time") <= 101 for line in told)
    about = {"step": UNPACK_LAYER, "subject": LAYERS[0], "total": 100}
    assert told[:3] == [
        {"event": "expect", "done": 0} | about,
        {"event": "expect", "step": UNPACK_LAYER, "subject": LAYERS[1], "done": 0, "total": 7},
        {"event": "begin", "done": 0} | about,
    ]
    advances = [line for line in told if line["event"] == "advance"]
    assert 1 <= len(advances) <= 3
    assert [line["done"] for line in advances] == sorted({line["done"] for line in advances})
    assert told[-4:] == [
        {"event": "end", "done": 100} | about,
        {"event": "skip", "step": UNPACK_LAYER, "subject": LAYERS[1], "done": 0, "total": 7},
        {"event": "notice", "message": "two\nlines"},
        {"event": "error", "error": "ImageInvalid", "message": "it broke", "hint": "mend it", "exit_code": 125},
    ]
