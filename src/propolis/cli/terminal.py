"""The user's terminal; the one place that picks its implementation."""

import sys

if sys.platform == "win32":
    from propolis.cli.terminal_windows import FORWARDED, RESIZED, raw_mode, size
else:
    from propolis.cli.terminal_posix import FORWARDED, RESIZED, raw_mode, size

__all__ = ["FORWARDED", "RESIZED", "raw_mode", "size"]
