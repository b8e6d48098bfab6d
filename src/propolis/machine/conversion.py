"""An image's layers become cached disks: what a machine starts from, and what built disks are merged from.

What has no place in the cache, as it may change at any time, becomes a disk of whoever asks.
"""

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from propolis.disk import container
from propolis.disk.below import Below
from propolis.disk.cache import LayerCache
from propolis.disk.ext4.writer import LayerWriter
from propolis.host.files import stage
from propolis.image.manifest import Layer
from propolis.image.source import Image
from propolis.progress import Reporter
from propolis.spec import Disk, DiskFormat
from propolis.tree import TreeSink

_CONVERSIONS_AT_ONCE = 4


def layer_disks(image: Image, cache: LayerCache, disk_format: DiskFormat, reporter: Reporter) -> Sequence[Disk]:
    """A disk for each layer, several made at once; one that leans on lower layers waits for theirs.

    Raises:
        What `LayerCache.disk` and `unpack` raise.
    """
    paths: list[Future[Path]] = []

    def convert(number: int, layer: Layer) -> Path:
        def fill(sink: TreeSink) -> None:
            from propolis.image.layers import unpack

            with image.open_layer(layer) as blob:
                unpack(blob, layer, sink, reporter)

        diff_ids = [below.diff_id for below in image.layers[: number + 1]]
        return cache.disk(diff_ids, disk_format, fill, lambda: [path.result() for path in paths[:number]])

    with ThreadPoolExecutor(_CONVERSIONS_AT_ONCE) as pool:
        for number, layer in enumerate(image.layers):  # in order: what a conversion waits for was begun before it
            paths.append(pool.submit(convert, number, layer))
        return [Disk(path=path.result(), format=disk_format) for path in paths]


def own_disk(path: Path, disk_format: DiskFormat, what: str, push: Callable[[TreeSink], str]) -> str:
    """Make a disk at `path` of a tree that stands on no other; `push` pushes it and returns what identifies it.

    Returns that, too.

    Raises:
        StorageFull, DiskError: it cannot be written there.
        Whatever `push` raises. Nothing is left of a disk that was not finished.
    """
    with contextlib.closing(Below(tuple)) as below, stage(path, durable=False) as staged:
        writer = LayerWriter(container.create(staged.descriptor, disk_format), what=what, lower=below)
        identity = push(writer)
        writer.finish(identity)
    return identity
