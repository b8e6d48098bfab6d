"""An image's layers become cached disks: what a machine starts from, and what built disks are merged from."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from propolis.disk.cache import LayerCache
from propolis.errors import BlobDamaged
from propolis.image.manifest import Layer
from propolis.image.source import Image
from propolis.progress import Reporter
from propolis.spec import Disk, DiskFormat
from propolis.tree import TreeSink

_UNPACKED_AT_ONCE = 3
_UNDER_WAY = 8
"""Layers that are unpacked or, which takes no processor, flushed to the host's disk."""


def layer_disks(image: Image, cache: LayerCache, disk_format: DiskFormat, reporter: Reporter) -> Sequence[Disk]:
    """A disk for each layer, several made at once; one that leans on lower layers waits for theirs.

    Raises:
        What `LayerCache.disk` and `unpack` raise.
    """
    paths: list[Future[Path]] = []
    turns = threading.Semaphore(_UNPACKED_AT_ONCE)

    def convert(number: int, layer: Layer) -> Path:
        turn = _Turn(turns)

        def fill(sink: TreeSink) -> None:
            from propolis.image.layers import unpack

            with turn, image.open_layer(layer) as blob:
                unpack(blob, layer, sink, reporter)

        def lower() -> Sequence[Path]:
            with turn.given_up():  # or those below might wait for it
                return [path.result() for path in paths[:number]]

        diff_ids = [below.diff_id for below in image.layers[: number + 1]]
        try:
            return cache.disk(diff_ids, disk_format, fill, lower)
        except BlobDamaged:  # the source has another one
            return cache.disk(diff_ids, disk_format, fill, lower)

    with ThreadPoolExecutor(_UNDER_WAY) as pool:
        for number, layer in enumerate(image.layers):  # in order: what a conversion waits for was begun before it
            paths.append(pool.submit(convert, number, layer))
        return [Disk(path=path.result(), format=disk_format) for path in paths]


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
