"""A tree sink in memory, strict about its contract: for tests of whatever produces entries."""

from propolis.tree import Entry, Kind


class MemorySink:
    """A `TreeSink` that keeps all entries and contents.

    It copies views only at `commit`, as the contract allows, so a producer that reuses memory too early is seen.
    Contents that do not cover their entry's size are an AssertionError.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        """In the order in which they came."""
        self.contents: dict[bytes, bytearray] = {}
        """What has been committed of each FILE, holes as zeros."""
        self.holes: list[tuple[bytes, int, int]] = []
        """Path, offset and length of each hole."""
        self._pending: list[tuple[bytes, memoryview | None]] = []
        self._missing = 0

    def entry(self, entry: Entry) -> None:
        """See `TreeSink.entry`."""
        self.check()
        self.entries.append(entry)
        if entry.kind is Kind.FILE:
            self._missing = entry.size
            self._pending.append((entry.path, None))

    def data(self, view: memoryview) -> None:
        """See `TreeSink.data`."""
        self._take(view)

    def hole(self, length: int) -> None:
        """See `TreeSink.hole`."""
        last = self.entries[-1]
        self.holes.append((last.path, last.size - self._missing, length))
        self._take(memoryview(bytes(length)))

    def commit(self) -> None:
        """See `TreeSink.commit`."""
        for path, piece in self._pending:
            if piece is None:
                self.contents[path] = bytearray()
            else:
                self.contents[path] += piece
        self._pending.clear()

    def check(self) -> None:
        """Raise AssertionError unless the last FILE has all of its content."""
        assert self._missing == 0, f"{self.entries[-1].path!r} lacks {self._missing} bytes"

    def by_path(self) -> dict[bytes, Entry]:
        """The last entry of each path."""
        return {entry.path: entry for entry in self.entries}

    def _take(self, view: memoryview) -> None:
        assert len(view) <= self._missing, f"{self.entries[-1].path!r} has more content than its size"
        self._missing -= len(view)
        self._pending.append((self.entries[-1].path, view))
