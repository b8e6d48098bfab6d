"""An image's layers become cached disks: what a machine starts from, and what built disks are merged from."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from propolis.disk.cache import LayerCache
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
