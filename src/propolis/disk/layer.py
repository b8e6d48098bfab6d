"""One tree becomes one disk: pushed entries go through the ext4 writer into a container. For who makes disks alone."""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from propolis.disk import container
from propolis.disk.below import Below
from propolis.disk.ext4.tree import WrongAssumption
from propolis.disk.ext4.writer import LayerWriter
from propolis.errors import ImageInvalid, LayerUnsupported
from propolis.host.memory import collection_paused
from propolis.spec import DiskFormat
from propolis.tree import TreeSink


@dataclass(frozen=True, slots=True)
class Written:
    """What is known of a disk once it is written."""

    identity: str
    """As whoever pushed the tree has it."""
    leans: bool
    """Whether layers below were asked, so that it is a disk for a stack with these alone."""


def write_layer(
    descriptor: int,
    disk_format: DiskFormat,
    what: str,
    push: Callable[[TreeSink], str],
    lower: Callable[[], Sequence[Path]] = tuple,
) -> Written:
    """Fill an empty file with the disk of what `push` pushes, which returns what identifies it.

    `what` is how messages name it; `lower` gives the disks of the layers below, bottom first, and is asked only if one
    has to be looked at, and once everything is pushed if it may wait so long. Then `push` is called once more where one
    of them has something unusual (a link on the way to an entry).

    Raises:
        LayerUnsupported, ImageInvalid: the tree cannot become a disk; the message names the entry.
        OSError: the host does not take it.
        Whatever `push` and `lower` raise.
    """
    try:
        return _write(descriptor, disk_format, what, push, lower, assumes=True)
    except WrongAssumption:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return _write(descriptor, disk_format, what, push, lower, assumes=False)


def _write(
    descriptor: int,
    disk_format: DiskFormat,
    what: str,
    push: Callable[[TreeSink], str],
    lower: Callable[[], Sequence[Path]],
    *,
    assumes: bool,
) -> Written:
    with contextlib.closing(Below(lower)) as below:
        writer = LayerWriter(container.create(descriptor, disk_format), what=what, lower=below, assumes=assumes)
        with collection_paused():  # not one between the two, which would walk the whole tree
            try:
                identity = push(writer)
            except (ImageInvalid, LayerUnsupported):
                writer.settle()  # or what is wrong is what was assumed
                raise
            writer.finish(identity)
        return Written(identity, below.consulted)
