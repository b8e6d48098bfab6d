"""Which bytes of a blob are here, and who fetches which of the rest. Pure: no I/O, no threads.

Ranges are half open: `end` is the first byte that is no longer meant.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass


class Ranges:
    """A set of bytes as disjoint ranges, none of which touch."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._ends, strict=True))

    def __bool__(self) -> bool:
        return bool(self._starts)

    def copy(self) -> "Ranges":
        """Another one, of its own."""
        found = Ranges()
        found._starts, found._ends = self._starts[:], self._ends[:]
        return found

    def add(self, start: int, end: int) -> None:
        """Take in the bytes from `start` on; none if `end` is not after it."""
        if end <= start:
            return
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def end_from(self, position: int) -> int:
        """Where the range that holds `position` ends; `position` itself where none does."""
        found = bisect_right(self._starts, position) - 1
        return max(position, self._ends[found]) if found >= 0 else position

    def gaps(self, size: int) -> Iterator[tuple[int, int]]:
        """What is missing of the first `size` bytes."""
        position = 0
        for start, end in self:
            if position < min(start, size):
                yield position, min(start, size)
            position = end
        if position < size:
            yield position, size


@dataclass(slots=True, eq=False)
class Claim:
    """What one of several fetches at the moment."""

    position: int
    """The next byte."""
    end: int
    """May come nearer, when another takes a part over."""


class Claims:
    """Who of several fetches what, so that each byte is fetched once."""

    def __init__(self, size: int, here: Ranges, least: int) -> None:
        """Of a blob of `size` bytes some are `here`, a set that grows; no part of fewer than `least` is split off."""
        self._size = size
        self._here = here
        self._least = least
        self._claims: list[Claim] = []

    def take(self) -> Claim | None:
        """What nobody fetches yet, or else the second half of what another has most of before him; None: enough do."""
        claimed = self._here.copy()
        for claim in self._claims:
            claimed.add(claim.position, claim.end)
        free = next(claimed.gaps(self._size), None)
        if free is None:
            longest = max(self._claims, key=lambda claim: claim.end - claim.position, default=None)
            if longest is None or longest.end - longest.position < 2 * self._least:
                return None
            middle = (longest.position + longest.end) // 2
            free, longest.end = (middle, longest.end), middle
        taken = Claim(*free)
        self._claims.append(taken)
        return taken

    def give_back(self, claim: Claim) -> None:
        """It is fetched, or by someone else."""
        self._claims.remove(claim)
