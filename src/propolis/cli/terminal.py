"""The user's terminal: its size, and what differs between systems, which is picked here."""

import os
import sys

if sys.platform == "win32":
    from propolis.cli.terminal_windows import FORWARDED, RESIZED, raw_mode
else:
    from propolis.cli.terminal_posix import FORWARDED, RESIZED, raw_mode

__all__ = ["FORWARDED", "RESIZED", "raw_mode", "size"]


def size(descriptor: int) -> tuple[int, int]:
    """Rows and columns; zeros where it is no terminal."""
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        return 0, 0
    return rows, columns
