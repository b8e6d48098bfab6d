"""Ends a wait that is made of many bounded ones: between two bytes, HTTP in chunks may have lines without end.

Python's HTTP bounds each of them, but neither a chunk's size nor the trailers as a whole. Knows nothing of HTTP.
"""

import threading
import time
from collections.abc import Callable
from typing import Self, TypeVar

_T = TypeVar("_T")


class Watchdog:
    """As a context manager: while it lasts, no call of `wait` takes much longer than twice `seconds`.

    `give_up` is called from another thread, and has to end what is waited for.
    """

    def __init__(self, seconds: float, give_up: Callable[[], None]) -> None:
        self._seconds = seconds
        self._give_up = give_up
        self._since: float | None = None
        self._is_over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, name="propolis-watchdog", daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._is_over.set()

    def wait(self, call: Callable[[], _T]) -> _T:
        """What `call` returns; raises what it raises, also when it was ended."""
        self._since = time.monotonic()
        try:
            return call()
        finally:
            self._since = None

    def _run(self) -> None:
        while not self._is_over.wait(self._seconds):
            since = self._since
            if since is not None and time.monotonic() - since >= self._seconds:
                self._give_up()
