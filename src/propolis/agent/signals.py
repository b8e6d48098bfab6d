"""Signals by name, with the numbers of Linux on the processors that guests have, whatever the host's numbers are.

Pure. The names are those of signal(7); real-time signals count from 34 to 64, as programs linked to glibc see them.
"""

import re
import signal

from propolis.errors import InvalidArgument

NUMBERS = {
    "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "IOT": 6, "BUS": 7, "FPE": 8, "KILL": 9, "USR1": 10,
    "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CLD": 17, "CONT": 18,
    "STOP": 19, "TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26, "PROF": 27,
    "WINCH": 28, "IO": 29, "POLL": 29, "PWR": 30, "SYS": 31,
}  # fmt: skip
_FIRST_REAL_TIME, _LAST = 34, 64
_REAL_TIME = re.compile(r"RT(?:MIN(?:\+(\d{1,2}))?|MAX(?:-(\d{1,2}))?)")

Signal = int | str | signal.Signals
"""Linux' number, a name with or without SIG, or a member of Python's `signal` (which goes by its name)."""


def signal_number(wanted: Signal) -> int:
    """Linux' number of a signal.

    Raises:
        InvalidArgument: Linux has no such signal.
    """
    if isinstance(wanted, int) and not isinstance(wanted, signal.Signals | bool):
        number = wanted
    else:
        name = wanted.name if isinstance(wanted, signal.Signals) else str(wanted)
        number = _by_name(name.strip().upper().removeprefix("SIG"))
    if not 1 <= number <= _LAST:
        raise InvalidArgument(
            f"there is no signal {str(wanted)[:40]!r}",
            hint="give a name like TERM or SIGTERM, or a number from 1 to 64",
        )
    return number


def _by_name(name: str) -> int:
    """The number; 0 for a name that means nothing."""
    if name in NUMBERS:
        return NUMBERS[name]
    if name.isascii() and name.isdecimal() and len(name) <= 2:
        return int(name)
    if (match := _REAL_TIME.fullmatch(name)) is None:
        return 0
    above, below = match.groups()
    number = _LAST - int(below or 0) if name.startswith("RTMAX") else _FIRST_REAL_TIME + int(above or 0)
    return number if _FIRST_REAL_TIME <= number <= _LAST else 0
