"""Draw a terminal session in a machine, played now, as docs/session.svg.

Usage: session.py. It happens in a tmux of its own; what that shows, with its colours, becomes the picture.
"""

import html
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import images
from terminals import PROPOLIS, Tmux

TARGET = Path(__file__).resolve().parent.parent / "docs" / "session.svg"
ROWS, COLUMNS = 22, 84
_UNTIL_IT_RUNS = 1.5
"""Seconds from Enter until a shell has given the terminal to what it started."""
_WIDTH, _HEIGHT, _MARGIN = 8.4, 18, 14
_BASIC = (
    "#2e3436", "#cc3333", "#4e9a06", "#c4a000", "#3465a4", "#8a5a94", "#06989a", "#d3d7cf",
    "#777b76", "#ef4040", "#8ae234", "#fce94f", "#729fcf", "#ad7fa8", "#34e2e2", "#eeeeec",
)  # fmt: skip
_INK, _PAPER = "#d3d7cf", "#1c1f20"
_SEQUENCE = re.compile(r"\x1b\[([0-9;]*)m|\x1b[()][0-9A-B]|[\x0e\x0f]")


@dataclass(frozen=True)
class _Style:
    ink: str = _INK
    paper: str = _PAPER
    bold: bool = False
    reverse: bool = False

    @property
    def colours(self) -> tuple[str, str]:
        return (self.paper, self.ink) if self.reverse else (self.ink, self.paper)


def main() -> int:
    """Play the session and draw both of its screens."""
    try:
        screens = _played()
    finally:
        subprocess.run([PROPOLIS, "stop", "-t", "0", "demo"], capture_output=True, check=False)  # if it broke off
    TARGET.write_text(_svg(screens), encoding="utf-8")
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")
    return 0


def _played() -> list[str]:
    """The screens of the shell and of htop."""
    with Tmux(rows=ROWS, columns=COLUMNS) as tmux:
        command = f"run -it --name demo --hostname box -e 'PS1=root@box# ' {images.editor()} bash --norc"
        tmux.enter(f'propolis() {{ {PROPOLIS} "$@"; }}; clear')
        tmux.enter(f"propolis {command}")
        tmux.expect(r"^root@box#$")
        tmux.enter("clear; uname -sm; ls --color=always /")
        tmux.expect("usr")
        tmux.enter("sleep 1000")
        time.sleep(_UNTIL_IT_RUNS)
        tmux.press("C-z")
        tmux.expect("Stopped")
        tmux.enter("jobs; fg")
        tmux.expect(r"^sleep 1000$")
        time.sleep(_UNTIL_IT_RUNS)
        tmux.press("C-c")
        tmux.press("C-p", "C-q")
        tmux.expect("left demo running")
        tmux.enter("propolis ps | cut -c1-24; propolis attach demo")
        tmux.expect("demo\\s*\\n")
        tmux.press("Enter")
        shell = tmux.screen(colours=True)
        tmux.enter("clear; htop")
        tmux.expect("F10")
        full_screen = tmux.screen(colours=True)
        tmux.type("q")
        tmux.enter("exit")
        tmux.expect(r"^\$$")
        return [shell, full_screen]


def _svg(screens: list[str]) -> str:
    width = round(COLUMNS * _WIDTH + 2 * _MARGIN)
    each = ROWS * _HEIGHT + 2 * _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{each * len(screens) + _MARGIN}">',
        "<style>text { font: 14px monospace; white-space: pre }</style>",
    ]
    for number, screen in enumerate(screens):
        top = number * (each + _MARGIN)
        lines.append(f'<rect y="{top}" width="{width}" height="{each}" rx="8" fill="{_PAPER}"/>')
        style = _Style()
        for row, text in enumerate(screen.splitlines()[:ROWS]):
            column = 0
            for style, run in _runs(text, style):  # noqa: B020 - what is set goes on in the next line
                lines += _drawn(run, style, _MARGIN + column * _WIDTH, top + _MARGIN + row * _HEIGHT)
                column += len(run)
    return "\n".join([*lines, "</svg>", ""])


def _drawn(run: str, style: _Style, x: float, y: float) -> Iterator[str]:
    ink, paper = style.colours
    width = len(run) * _WIDTH
    if paper != _PAPER:
        yield f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_HEIGHT}" fill="{paper}"/>'
    if run.strip():
        weight = ' font-weight="bold"' if style.bold else ""
        text = html.escape(run.rstrip())
        length = f' textLength="{len(run.rstrip()) * _WIDTH:.1f}"'
        yield f'<text x="{x:.1f}" y="{y + 14}" fill="{ink}"{weight}{length}>{text}</text>'


def _runs(line: str, style: _Style) -> Iterator[tuple[_Style, str]]:
    """Pieces of one line in one style each; an empty one tells the style at the line's end."""
    at = 0
    for match in _SEQUENCE.finditer(line):
        if match.start() > at:
            yield style, line[at : match.start()]
        if match.group(1) is not None:
            style = _changed(style, [int(code or 0) for code in match.group(1).split(";")])
        at = match.end()
    yield style, line[at:]


def _changed(style: _Style, codes: list[int]) -> _Style:
    """What ECMA-48's SGR makes of a style."""
    while codes:
        code = codes.pop(0)
        if code == 0:
            style = _Style()
        elif code in (1, 22):
            style = replace(style, bold=code == 1)
        elif code in (7, 27):
            style = replace(style, reverse=code == 7)
        elif code in (38, 48) and codes[:1] == [5]:
            colour = _indexed(codes[1])
            del codes[:2]
            style = replace(style, ink=colour) if code == 38 else replace(style, paper=colour)
        elif code == 39:
            style = replace(style, ink=_INK)
        elif code == 49:
            style = replace(style, paper=_PAPER)
        elif 30 <= code <= 37 or 90 <= code <= 97:
            style = replace(style, ink=_BASIC[code - 30 if code < 90 else code - 82])
        elif 40 <= code <= 47 or 100 <= code <= 107:
            style = replace(style, paper=_BASIC[code - 40 if code < 100 else code - 92])
    return style


def _indexed(number: int) -> str:
    """A colour of xterm's table of 256."""
    if number < 16:
        return _BASIC[number]
    if number >= 232:
        return f"#{8 + 10 * (number - 232):02x}" + f"{8 + 10 * (number - 232):02x}" * 2
    levels = (0, 95, 135, 175, 215, 255)
    red, green, blue = (levels[(number - 16) // size % 6] for size in (36, 6, 1))
    return f"#{red:02x}{green:02x}{blue:02x}"


if __name__ == "__main__":
    sys.exit(main())
