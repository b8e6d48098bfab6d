import threading

import pytest

from propolis.image.watchdog import Watchdog


def test_a_wait_that_takes_too_long_is_given_up():
    ended = threading.Event()
    with Watchdog(0.05, ended.set) as watchdog:
        assert watchdog.wait(lambda: ended.wait(10))


def test_waits_that_do_not_and_the_time_between_them_are_not():
    given_up = threading.Event()
    with Watchdog(0.1, given_up.set) as watchdog:
        for _ in range(5):
            assert watchdog.wait(lambda: 7) == 7
            assert not given_up.wait(0.05)


def test_what_a_wait_raises_comes_out():
    def fail():
        raise OSError("no")

    with Watchdog(1, lambda: None) as watchdog, pytest.raises(OSError, match="no"):
        watchdog.wait(fail)
