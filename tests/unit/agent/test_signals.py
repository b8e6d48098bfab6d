import signal
import subprocess
import sys

import pytest

from propolis.agent.signals import NUMBERS, signal_number
from propolis.errors import InvalidArgument


@pytest.mark.parametrize(
    ("wanted", "number"),
    [
        ("TERM", 15),
        ("SIGTERM", 15),
        ("sigusr1", 10),
        (signal.SIGINT, 2),
        (signal.SIGTERM, 15),
        (9, 9),
        ("9", 9),
        (64, 64),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("RTMAX", 64),
        ("RTMAX-30", 34),
    ],
)
def test_numbers_are_those_of_linux(wanted, number):
    assert signal_number(wanted) == number


def test_a_member_goes_by_its_name_whatever_its_number_is_on_this_host():
    """On macOS SIGUSR1 is 30; a member made by hand stands in for it."""
    foreign = int.__new__(signal.Signals, 30)
    foreign._name_, foreign._value_ = "SIGUSR1", 30
    assert signal_number(foreign) == 10


@pytest.mark.parametrize(
    "wanted", ["", "SIG", "NOPE", "TERM ME", 0, -1, 65, "0", "65", "RTMIN+31", "RTMAX-31", "RTMIN-1", True, "\u0661"]
)
def test_what_is_no_signal_is_told(wanted):
    with pytest.raises(InvalidArgument, match="no signal"):
        signal_number(wanted)


@pytest.mark.skipif(sys.platform == "win32", reason="the shell is Linux'")
def test_the_table_is_the_shells():
    for name in set(NUMBERS) - {"IOT", "CLD", "POLL"}:  # second names
        told = subprocess.run(["bash", "-c", f"kill -l {NUMBERS[name]}"], capture_output=True, text=True, check=True)
        assert told.stdout.strip() == name
