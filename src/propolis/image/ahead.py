"""Work that runs ahead of whoever takes its results: an iterator drained by a thread of its own, through a short queue.

Hashing, decompression and file I/O release the interpreter, so that stages put behind one another like this share the
machine's processors. Knows nothing of what passes.
"""

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Generic, Self, TypeVar

_T = TypeVar("_T")


class Ahead(Iterator[_T], Generic[_T]):
    """Iterates over `source` from another thread, at most `depth` items ahead; what it raises is raised here.

    To be closed. Not for several threads to take from.
    """

    def __init__(self, source: Iterator[_T], depth: int) -> None:
        """Begin at once."""
        self._source = source
        self._items: SimpleQueue[tuple[_T] | BaseException | None] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(depth):
            self._room.put(None)
        self._ended = self._closed = False
        self._thread = threading.Thread(target=self._run, name="propolis-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _T:
        if self._ended:
            raise StopIteration
        item = self._items.get()
        if isinstance(item, tuple):
            self._room.put(None)
            return item[0]
        self._ended = True
        if item is None:
            raise StopIteration
        raise item

    def close(self) -> None:
        """Stop the thread at its next item, and wait for that; `source` may then be taken from directly."""
        self._ended = self._closed = True
        self._room.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            for item in self._source:
                self._items.put((item,))
                self._room.get()
                if self._closed:
                    return
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever takes the items
            self._items.put(error)
        else:
            self._items.put(None)
