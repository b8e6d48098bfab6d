"""What a disk can be built from: an image, a tar, or a directory, told apart by what lies there.

A directory with an `oci-layout` and a tar with an image in it are images; other tars are layers, other directories root
file systems. `tar:` and `rootfs:` in front of a path leave no doubt.
"""

import contextlib
import hashlib
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from propolis.disk.cache import LayerCache
from propolis.disk.merged import push_merged
from propolis.errors import ImageInvalid, ImageNotFound
from propolis.host.directories import cache_directory
from propolis.host.files import stage_directory, storage_errors
from propolis.image.files import mode_of
from propolis.image.layers import unpack, unpack_tar
from propolis.image.manifest import Layer
from propolis.image.opening import holds_image, open_image
from propolis.image.reference import Transport, has_transport, parse, reads_standard_input
from propolis.image.rootfs import push_directory
from propolis.image.source import Image
from propolis.image.spool import STANDARD_INPUT, shown, spooled
from propolis.image.store import BlobStore
from propolis.images.opening import open_held, reference_of
from propolis.machine.conversion import layer_disks, own_disk
from propolis.machine.pulling import platform_for
from propolis.progress import Reporter
from propolis.spec import Architecture, DiskFormat
from propolis.state.leases import Lease
from propolis.tree import TreeSink

_TAR, _ROOTFS = "tar:", "rootfs:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is to be on one disk."""

    name: str
    """What a file may be called that holds it."""
    what: str
    """What it is, for messages."""
    push: Callable[[TreeSink], str]
    """Pushes the tree; returns what identifies it."""
    lower: Callable[[], Sequence[Path]] = tuple
    """The disks of the layers below, bottom first."""


@contextlib.contextmanager
def contents(
    source: str, flatten: bool, reporter: Reporter, platform: str | None = None, signature_policy: Path | None = None
) -> Iterator[Sequence[Content]]:
    """What disks `source` gives: one, or one for each of an image's layers unless they are to be merged.

    Raises:
        InvalidArgument: the source is no reference, or fits several images.
        ImageNotFound: nothing is there.
        SignatureRejected: it is an image that the signature policy does not allow.
        ImageInvalid: what is there is neither image, tar nor directory.
        What converting the layers raises, when they are to be merged.
    """
    path = Path(source.removeprefix(_TAR).removeprefix(_ROOTFS))
    is_path = not has_transport(source) and not source.startswith(_TAR)
    mode = mode_of(path) if is_path else 0
    if source.startswith(_ROOTFS) or (is_path and stat.S_ISDIR(mode) and not holds_image(path)):
        yield [Content(name=path.name, what=str(path), push=lambda sink: push_directory(path, sink, reporter))]
    elif source.startswith(_TAR) or (is_path and stat.S_ISREG(mode) and not _holds_image(path)):
        with _tar(path, flatten, reporter) as content:
            yield [content]
    else:
        cache = cache_directory()
        wanted = platform_for(platform, Architecture.X86_64)
        reference, store = reference_of(source, cache), BlobStore(cache / "blobs")
        opened = partial(open_image, reference, wanted, store, signature_policy=signature_policy, reporter=reporter)
        with Lease(cache) as lease, open_held(opened, cache, lease) as image:
            yield [_merged(source, image, reporter)] if flatten else _layers(image, reporter)


def path_of(source: str) -> Path | None:
    """Where a source lies on this host; None for what does not.

    Raises:
        InvalidArgument, ImageNotFound: as `contents`.
    """
    if source.startswith((_TAR, _ROOTFS)):
        path = Path(source.removeprefix(_TAR).removeprefix(_ROOTFS))
        return path if mode_of(path) else None
    if reads_standard_input(source):
        return None
    return parse(source, lambda path: Transport.OCI if mode_of(path) else None).path


def _holds_image(path: Path) -> bool:
    try:
        return holds_image(path)
    except ImageInvalid:
        return False


@contextlib.contextmanager
def _tar(path: Path, flatten: bool, reporter: Reporter) -> Iterator[Content]:
    """A tar's content as it is, a layer; merged with nothing, whiteouts are gone."""
    cache = cache_directory()
    with contextlib.ExitStack() as opened:
        file, name = path, path.name.partition(".")[0]
        if path == STANDARD_INPUT:
            copy = opened.enter_context(contextlib.closing(spooled(path, BlobStore(cache / "blobs").spool, reporter)))
            file, name = copy.path, "stdin"
        if not file.is_file():
            raise ImageNotFound(f"{path} is not a file", hint="name a tar file")
        if not file.stat().st_size:
            raise ImageInvalid(f"{path} is empty", hint="name a tar file; an empty archive has two blocks of zeros")
        layer = Content(name=name, what=shown(path), push=lambda sink: unpack_tar(file, sink, reporter))
        if not flatten:
            yield layer
            return
        opened.enter_context(storage_errors(cache))
        directory = opened.enter_context(stage_directory(cache / "flatten"))
        disk = directory / "layer.raw"

        def push(sink: TreeSink) -> str:
            digest = own_disk(disk, DiskFormat.RAW, layer.what, layer.push)
            push_merged([disk], sink)
            return digest

        yield Content(name=layer.name, what=layer.what, push=push)


def _merged(source: str, image: Image, reporter: Reporter) -> Content:
    disks = layer_disks(image, LayerCache(cache_directory() / "layers"), DiskFormat.RAW, reporter)
    stack = " ".join(layer.diff_id for layer in image.layers)

    def push(sink: TreeSink) -> str:
        push_merged([disk.path for disk in disks], sink)
        return f"sha256:{hashlib.sha256(stack.encode()).hexdigest()}"

    return Content(name="merged", what=source, push=push)


def _layers(image: Image, reporter: Reporter) -> Sequence[Content]:
    cache = LayerCache(cache_directory() / "layers")

    def lower(number: int) -> Sequence[Path]:
        return [disk.path for disk in layer_disks(image, cache, DiskFormat.RAW, reporter)[:number]]

    def push(layer: Layer, sink: TreeSink) -> str:
        with image.open_layer(layer) as blob:
            unpack(blob, layer, sink, reporter)
        return layer.diff_id

    return [
        Content(
            name=f"{number + 1:02}-{layer.diff_id.partition(':')[2][:12]}",
            what=str(layer),
            push=lambda sink, layer=layer: push(layer, sink),  # type: ignore[misc]
            lower=lambda number=number: lower(number),  # type: ignore[misc]
        )
        for number, layer in enumerate(image.layers)
    ]
