"""An image's layers become cached disks: what a machine starts from, and what built disks are merged from.

What has no place in the cache, as it may change at any time, becomes a disk of whoever asks.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

from propolis.disk.cache import LayerCache
from propolis.errors import BlobDamaged
from propolis.host.files import stage
from propolis.image.source import Image
from propolis.progress import UNPACK_LAYER, Reporter, Revocable
from propolis.spec import Disk, DiskFormat
from propolis.tree import TreeSink

_UNPACKED_AT_ONCE = max(2, min(4, (os.cpu_count() or 1) // 2))
"""Each keeps some two processors busy."""
_UNDER_WAY = _UNPACKED_AT_ONCE + 2
"""Layers that are unpacked or, which takes little of a processor, fetched or flushed to the host's disk."""


def layer_disks(image: Image, cache: LayerCache, disk_format: DiskFormat, reporter: Reporter) -> Sequence[Disk]:
    """A disk for each layer, several made at once; one that leans on lower layers waits for theirs to be finished.

    Raises:
        What `LayerCache.disk` and `unpack` raise; the other layers are left where they are.
    """
    for layer in image.layers:
        reporter.expect(UNPACK_LAYER, layer.diff_id, layer.size)
    with ThreadPoolExecutor(_UNDER_WAY) as pool, Revocable(reporter) as revocable:
        conversions = _Conversions(image, cache, disk_format, revocable)
        return [Disk(path=path, format=disk_format) for path in conversions.run(pool)]


class _Conversions:
    """The layers of one image on their way to disks."""

    def __init__(self, image: Image, cache: LayerCache, disk_format: DiskFormat, reporter: Reporter) -> None:
        self._image = image
        self._cache = cache
        self._format = disk_format
        self._reporter = reporter
        self._turns = threading.Semaphore(_UNPACKED_AT_ONCE)
        self._paths: list[Future[Path]] = []

    def run(self, pool: Executor) -> Sequence[Path]:
        """All of them, lowest first; several at once."""
        for number in range(len(self._image.layers)):  # in order: what one waits for was begun before it
            self._paths.append(pool.submit(self._convert, number))
        return [path.result() for path in self._paths]

    def _convert(self, number: int) -> Path:
        layer, turn, is_made = self._image.layers[number], _Turn(self._turns), False

        def fill(sink: TreeSink) -> None:
            nonlocal is_made
            is_made = True
            from propolis.image.layers import unpack

            with self._image.open_layer(layer) as blob, turn:
                unpack(blob, layer, sink, self._reporter)

        def lower() -> Sequence[Path]:
            with turn.given_up():  # or those below might wait for it
                return [path.result() for path in self._paths[:number]]

        diff_ids = [below.diff_id for below in self._image.layers[: number + 1]]
        try:
            path = self._cache.disk(diff_ids, self._format, fill, lower)
        except BlobDamaged:  # the source has another one
            path = self._cache.disk(diff_ids, self._format, fill, lower)
        if not is_made:
            self._reporter.skip(UNPACK_LAYER, layer.diff_id)
        return path


class _Turn:
    """One of several to have a turn at what only some may do at once."""

    def __init__(self, turns: threading.Semaphore) -> None:
        self._turns = turns
        self._is_held = False

    def __enter__(self) -> None:
        self._turns.acquire()
        self._is_held = True

    def __exit__(self, *_exception: object) -> None:
        self._is_held = False
        self._turns.release()

    @contextlib.contextmanager
    def given_up(self) -> Iterator[None]:
        """Let others have it meanwhile."""
        if not self._is_held:
            yield
            return
        self._turns.release()
        try:
            yield
        finally:
            self._turns.acquire()


def own_disk(path: Path, disk_format: DiskFormat, what: str, push: Callable[[TreeSink], str]) -> str:
    """Make a disk at `path` of a tree that stands on no other; `push` pushes it and returns what identifies it.

    Returns that, too.

    Raises:
        StorageFull, DiskError: it cannot be written there.
        Whatever `push` raises. Nothing is left of a disk that was not finished.
    """
    from propolis.disk.layer import write_layer

    with stage(path, durable=False) as staged:
        return write_layer(staged.descriptor, disk_format, what, push).identity
