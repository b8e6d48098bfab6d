"""One conversion in a process of its own, for the benchmark: a layer's blob becomes a disk, both digests checked.

Usage: convert.py BLOB MEDIA_TYPE DIGEST DIFF_ID FORMAT OUT. Prints seconds without the imports, seconds of CPU, and
peak resident memory in MiB.
"""

import os
import resource
import sys
import time
from pathlib import Path

from disks import NothingBelow
from propolis.disk import container
from propolis.disk.ext4.writer import LayerWriter
from propolis.host.memory import collection_paused
from propolis.image.layers import unpack
from propolis.image.manifest import Layer
from propolis.spec import DiskFormat


def main() -> None:
    """Convert and print."""
    blob, media_type, digest, diff_id, disk_format, out = sys.argv[1:]
    before, cpu_before = time.perf_counter(), time.process_time()
    layer = Layer(digest=digest, size=Path(blob).stat().st_size, media_type=media_type, diff_id=diff_id)
    descriptor = os.open(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    writer = LayerWriter(container.create(descriptor, DiskFormat(disk_format)), what="it", lower=NothingBelow())
    with Path(blob).open("rb", buffering=0) as file, collection_paused():  # as the cache does it
        unpack(file, layer, writer)  # type: ignore[arg-type]
        writer.finish(diff_id)
    os.close(descriptor)
    seconds, cpu = time.perf_counter() - before, time.process_time() - cpu_before
    print(seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
