import threading
import time

import pytest

from propolis.image.ahead import Ahead


def test_items_come_in_order_from_another_thread():
    threads = set()

    def numbers():
        for number in range(1000):
            threads.add(threading.get_ident())
            yield number

    ahead = Ahead(numbers(), 4)
    assert list(ahead) == list(range(1000))
    assert threads.isdisjoint({threading.get_ident()})
    assert list(ahead) == []
    ahead.close()


def test_it_runs_ahead_as_far_as_it_may():
    taken = []

    def numbers():
        for number in range(100):
            taken.append(number)
            yield number

    ahead = Ahead(numbers(), 4)
    until = time.monotonic() + 30
    while len(taken) < 5 and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(0.05)
    assert len(taken) == 5
    assert next(ahead) == 0
    ahead.close()
    assert len(taken) <= 7


def test_what_is_raised_is_raised_where_items_are_taken():
    def failing():
        yield 1
        raise ValueError("broken")

    ahead = Ahead(failing(), 4)
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken"):
        next(ahead)
    with pytest.raises(StopIteration):
        next(ahead)
    ahead.close()


def test_after_close_the_source_is_the_callers():
    source = iter(range(100))
    ahead = Ahead(source, 2)
    first = next(ahead)
    ahead.close()
    assert first == 0
    assert next(source) < 6
    with pytest.raises(StopIteration):
        next(ahead)
    assert "propolis-ahead" not in {thread.name for thread in threading.enumerate()}


def test_stages_behind_each_other():
    inner = Ahead(iter(range(500)), 3)
    outer = Ahead((number * 2 for number in inner), 3)
    assert sum(outer) == 2 * sum(range(500))
    outer.close()
    inner.close()
