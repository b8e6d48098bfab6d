"""What a guest printed, as far back as is kept: the same for every backend."""

import threading
from collections import deque

KEPT_BYTES = 64 << 10


class Tail:
    """The last bytes of a stream; appended to by one thread, read by any."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._limit = limit
        self._lock = threading.Lock()

    def append(self, data: bytes) -> None:
        """Add `data`, forgetting what is older than the limit."""
        with self._lock:
            self._chunks.append(data)
            self._size += len(data)
            while self._size - len(self._chunks[0]) >= self._limit:
                self._size -= len(self._chunks.popleft())

    def text(self) -> str:
        """What is kept, at most `limit` bytes of it, decoded as well as it goes."""
        with self._lock:
            data = b"".join(self._chunks)
        return data[-self._limit :].decode(errors="replace").replace("\r\n", "\n")
