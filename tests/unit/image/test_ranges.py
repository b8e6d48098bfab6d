from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from propolis.image.ranges import Claims, Ranges

SIZE = 64
SPANS = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=12)


def ranges(spans):
    found = Ranges()
    for start, end in spans:
        found.add(start, end)
    return found


@given(SPANS)
def test_they_are_a_set_of_bytes(spans):
    expected = {byte for start, end in spans for byte in range(start, end)}
    found = ranges(spans)
    assert {byte for start, end in found for byte in range(start, end)} == expected
    assert bool(found) == bool(expected)
    missing = [byte for start, end in found.gaps(SIZE) for byte in range(start, end)]
    assert missing == sorted(set(range(SIZE)) - expected)
    pairs = list(found)
    assert all(end < start for (_, end), (start, _) in pairwise(pairs)), "none touch"
    for position in range(SIZE):
        end = position
        while end in expected:
            end += 1
        assert found.end_from(position) == end


def move(here, claim, position):
    """As one who fetches."""
    here.add(claim.position, position)
    claim.position = position


def test_a_copy_is_its_own():
    first = ranges([(0, 5)])
    first.copy().add(5, 9)
    assert list(first) == [(0, 5)]


def test_one_takes_all_and_another_half_of_what_is_left_of_that():
    here = ranges([(0, 20)])
    claims = Claims(100, here, least=10)
    first = claims.take()
    assert (first.position, first.end) == (20, 100)
    move(here, first, 60)
    second = claims.take()
    assert (first.end, second.position, second.end) == (80, 80, 100)
    move(here, first, 75)
    assert claims.take().position == 90
    assert claims.take() is None, "what is left is not worth another connection"


def test_what_was_given_back_is_taken_by_another():
    here = Ranges()
    claims = Claims(100, here, least=10)
    first, second = claims.take(), claims.take()
    here.add(second.position, second.position + 5)
    claims.give_back(second)
    again = claims.take()
    assert (again.position, again.end) == (55, 100)
    here.add(0, 100)
    claims.give_back(first)
    claims.give_back(again)
    assert claims.take() is None


@given(SPANS, st.lists(st.tuples(st.sampled_from(["take", "move", "drop"]), st.integers(0, 40)), max_size=60))
def test_every_byte_is_fetched_once_however_lanes_come_and_go(spans, steps):
    here = ranges(spans)
    missing = {byte for start, end in here.gaps(SIZE) for byte in range(start, end)}
    claims, lanes, fetched = Claims(SIZE, here, least=4), [], []

    def fetch(claim, count):
        end = min(claim.position + count, claim.end)
        fetched.extend(range(claim.position, end))
        move(here, claim, end)

    for what, number in steps:
        if what == "take":
            lanes += filter(None, [claims.take()])
        elif lanes and what == "move":
            fetch(lanes[number % len(lanes)], number)
        elif lanes:
            claims.give_back(lanes.pop(number % len(lanes)))
    for lane in lanes:
        fetch(lane, SIZE)
        claims.give_back(lane)
    while (claim := claims.take()) is not None:
        fetch(claim, SIZE)
        claims.give_back(claim)
    assert sorted(fetched) == sorted(missing)
