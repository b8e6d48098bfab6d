"""The user's terminal: its size, and what differs between systems, which is picked here."""

import os
import re
import sys
from collections.abc import Mapping

from propolis.cli import streams

if sys.platform == "win32":
    from propolis.cli.terminal_windows import (
        ENDING,
        FORWARDED,
        RESIZED,
        is_terminal,
        open_signal_receiver,
        prepare,
        raw_mode,
    )
else:
    from propolis.cli.terminal_posix import (
        ENDING,
        FORWARDED,
        RESIZED,
        is_terminal,
        open_signal_receiver,
        prepare,
        raw_mode,
    )

__all__ = [
    "ENDING",
    "FORWARDED",
    "RESIZED",
    "environment",
    "is_terminal",
    "open_signal_receiver",
    "ours",
    "prepare",
    "raw_mode",
    "size",
]

_USUAL = b"\x1b[0m\x1b[?25h\x1b[?1l\x1b>\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l"
_DESCRIBED = re.compile(r"(xterm|screen|tmux|rxvt|linux|vt100|vt220|ansi|dumb)(-(16|88|256)?color)?")
"""Terminals that small images, too, have a description of, or programs know by heart."""
_ANY_OTHER = "xterm-256color"
"""What every terminal with a description of its own (kitty, alacritty, ...) understands."""


def size(descriptor: int) -> tuple[int, int]:
    """Rows and columns; zeros where it is no terminal."""
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        return 0, 0
    return rows, columns


class Screen:
    """What a program has made of the terminal, as far as somebody who leaves it amidst must undo it."""

    _ALTERNATE = re.compile(rb"\x1b\[\?(?:1049|1047|47)([hl])")

    def __init__(self) -> None:
        self._alternate = False

    def follow(self, data: bytes) -> None:
        """The program has printed this."""
        if b"\x1b[?" in data:
            for match in self._ALTERNATE.finditer(data):
                self._alternate = match.group(1) == b"h"

    def left(self) -> bytes:
        """What gives the terminal back: usual screen, colours, cursor and keys, no mouse; on a line of its own."""
        return (b"\x1b[?1049l" if self._alternate else b"") + _USUAL + b"\r\n"


def ours() -> tuple[int, int]:
    """Rows and columns of the terminal we print to, or else read from."""
    rows, columns = size(streams.STDOUT)
    return (rows, columns) if rows else size(streams.STDIN)


def environment(ours: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a process on our terminal must be told of it: its kind, as far as an image knows it, and its colours."""
    kind = ours.get("TERM", "")
    told = {"TERM": kind if _DESCRIBED.fullmatch(kind) else _ANY_OTHER} if kind else {}
    return told | {name: ours[name] for name in ("COLORTERM",) if ours.get(name) in ("truecolor", "24bit")}
