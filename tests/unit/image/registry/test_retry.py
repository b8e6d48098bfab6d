from datetime import UTC, datetime

import pytest

from propolis.errors import RegistryError
from propolis.image.registry.retry import Patience, Transient, persevere, retry_after

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("99999999999999999999", 1 << 31),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60),
        ("Thu, 01 Jan 2026 00:00:00 -0000", 0),
        ("Wed, 31 Dec 2025 23:00:00 GMT", 0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("3\x1f", None),
        ("", None),
        (None, None),
        ("٣", None),
        ("9" * 100, None),
        ("Thu, 99 Jan 99999 99:99:99 GMT", None),
    ],
)
def test_retry_after_in_both_of_its_forms(text, seconds):
    assert retry_after(text, NOW) == seconds


def failing(*faults):
    """A call that raises each of the faults, then returns."""
    left = list(faults)

    def call():
        if left:
            raise left.pop(0)
        return "done"

    return call


def fault(**options):
    return Transient(RegistryError("broken"), **options)


def test_delays_double_within_their_bounds():
    slept = []
    patience = Patience(attempts=9, first_delay=1, longest_delay=8, sleep=slept.append)
    assert persevere(patience, failing(*(fault() for _ in range(8)))) == "done"
    for seconds, most in zip(slept, (1, 2, 4, 8, 8, 8, 8, 8), strict=True):
        assert most / 2 <= seconds <= most


def test_the_last_fault_is_raised_when_attempts_run_out():
    slept = []
    with pytest.raises(RegistryError, match="broken"):
        persevere(Patience(attempts=3, sleep=slept.append), failing(*(fault() for _ in range(3))))
    assert len(slept) == 2
    with pytest.raises(RegistryError):
        persevere(Patience(sleep=slept.append), failing(fault(attempts=1)))
    assert len(slept) == 2


def test_what_the_server_asks_for_is_waited_for_unless_it_is_too_long():
    slept = []
    patience = Patience(sleep=slept.append, longest_delay=30)
    assert persevere(patience, failing(fault(wait=20))) == "done"
    assert slept == [20]
    with pytest.raises(RegistryError) as caught:
        persevere(patience, failing(fault(wait=31)))
    assert "wait 31 s" in caught.value.hint
