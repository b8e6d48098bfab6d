"""How long and how often to try: bounds for every wait, growing delays, what a server asks for with Retry-After.

Pure but for the sleeping.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from propolis.errors import RegistryError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Bounds; times in seconds."""

    attempts: int = 5
    first_delay: float = 0.5
    """The next ones double."""
    longest_delay: float = 30.0
    """A server that asks for more with Retry-After is given up."""
    connect: float = 10.0
    read: float = 30.0
    """Without a single byte."""
    document: float = 60.0
    """For the whole of a manifest, a config or a token."""
    turn: float = 600.0
    """For one of the connections, while others use all there may be."""
    alone: float = 1.0
    """After which a blob that comes over one connection gets another one, and so on."""
    window: float = 60.0
    """In which a blob has to grow by `window_bytes`."""
    window_bytes: int = 16 << 10
    sleep: Callable[[float], None] = time.sleep

    def delay(self, attempt: int) -> float:
        """Seconds to wait after `attempt` failures: with chance, so that clients do not march in step."""
        return min(self.first_delay * 2.0 ** (attempt - 1), self.longest_delay) * random.uniform(0.5, 1.0)  # noqa: S311


class Transient(Exception):
    """A fault that may be gone in a moment; `error` is what to say if it is not."""

    def __init__(self, error: RegistryError, *, wait: float | None = None, attempts: int | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait = wait
        """What the server asked for, in seconds."""
        self.attempts = attempts
        """Fewer than usual, where more would only make the user wait."""


def persevere(patience: Patience, call: Callable[[], _T]) -> _T:
    """Call until it does not raise `Transient`.

    Raises:
        RegistryError: the last fault, if all attempts failed.
    """
    attempt = 0
    while True:
        try:
            return call()
        except Transient as fault:
            attempt += 1
            pause(patience, fault, attempt)


def pause(patience: Patience, fault: Transient, attempt: int) -> None:
    """Sleep before the next attempt.

    Raises:
        RegistryError: there is to be none; `attempt` have failed, or the server asks for more patience than there is.
    """
    if attempt >= min(fault.attempts or patience.attempts, patience.attempts):
        raise fault.error from fault
    if fault.wait is not None and fault.wait > patience.longest_delay:
        fault.error.hint = f"it asks to wait {fault.wait:.0f} s; try again then"
        raise fault.error from fault
    patience.sleep(max(fault.wait or 0.0, patience.delay(attempt)))


def retry_after(text: str | None, now: datetime | None = None) -> float | None:
    """The field Retry-After in seconds, whichever form it has; None when there is none or it cannot be read."""
    if not text or len(text) > 64:
        return None
    number = text.strip(" \t")
    if number.isascii() and number.isdigit():
        return float(min(int(number), 1 << 31))
    from email.utils import parsedate_to_datetime  # a quarter of all that this module would load

    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())
