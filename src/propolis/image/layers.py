"""A layer's blob becomes entries in a `TreeSink`, its digest and diff_id verified in the same pass.

Knows nothing of disks: whether a path leads through a symlink is the sink's concern, which has the tree. Reading,
decompression and hashing run ahead of it in threads. What a member of the tar means, `entries` knows.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from propolis.errors import DigestMismatch, ImageError, ImageInvalid
from propolis.host.memory import collection_paused
from propolis.image import digest as digests
from propolis.image import tar
from propolis.image.ahead import Ahead
from propolis.image.blob import MeteredBlob, digested, drained
from propolis.image.compression import MAGIC_LENGTH, Compression, sniff
from propolis.image.decompression import chunks
from propolis.image.entries import entry_of
from propolis.image.manifest import Layer, layer_type
from propolis.progress import UNPACK_LAYER, Reporter, Silent
from propolis.tree import TreeSink

MAX_ENTRIES = 10_000_000
MAX_UNPACKED = 1 << 40
"""Bytes of one layer's tar, and of all its files together with their holes."""
_DEPTH = 4
"""Chunks that a stage may be ahead of the next; `blob.RING` has to be more than three stages' worth."""


def unpack(blob: BinaryIO, layer: Layer, sink: TreeSink, reporter: Reporter | None = None) -> None:
    """Push every entry of `layer` into `sink`, reading `blob` from where it stands to its end.

    Progress is in bytes of `blob`. When this raises, the sink has already taken entries: discard what it made of them.
    The sink's own errors pass through.

    Raises:
        DigestMismatch: the blob is not what names it: its digest, or where it has none, the diff_id of its content.
        ImageInvalid: truncated, broken, of another size, or hostile; the message names the entry. Or the blob is the
            right one, and the diff_id is wrong: then other images may still be made of it.
    """
    reporter = reporter or Silent()
    reporter.begin(UNPACK_LAYER, layer.diff_id, layer.size)
    with collection_paused():
        found = _Unpacking(blob, layer, sink, reporter).run()
    if found != layer.diff_id.partition(":")[2]:
        raise (ImageInvalid if layer.digest else DigestMismatch)(
            f"the content of {layer} is not what diff_id {digests.short(layer.diff_id)} names",
            hint="the image contradicts itself; get another copy",
        )
    reporter.end(UNPACK_LAYER, layer.diff_id)


def unpack_tar(path: Path, sink: TreeSink, reporter: Reporter | None = None) -> str:
    """Push every entry of a tar that no image names, plain or compressed, into `sink`; returns its diff_id.

    Raises:
        ImageInvalid: it is no tar, truncated, broken or hostile; the message names the entry.
        ImageError: it cannot be read.
    """
    reporter = reporter or Silent()
    try:
        blob = path.open("rb", buffering=0)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error
    with blob:
        head = blob.read(MAGIC_LENGTH)
        blob.seek(0)
        layer = _Tar(
            digest="",
            size=path.stat().st_size,
            media_type=layer_type(sniff(head)),
            diff_id=f"sha256:{path.name}",
            path=path,
        )
        reporter.begin(UNPACK_LAYER, layer.diff_id, layer.size)
        with collection_paused():
            found = _Unpacking(blob, layer, sink, reporter).run()
        reporter.end(UNPACK_LAYER, layer.diff_id)
    return f"sha256:{found}"


def push_archive(read: Callable[[], memoryview], sink: TreeSink) -> None:
    """Push every entry of a plain archive that is no layer, whose names are what they are; `read` as for `TarReader`.

    Raises:
        ImageInvalid: it is truncated, broken or hostile; the message names the entry.
    """
    reader = tar.TarReader(read, "the archive", release=sink.commit)
    count = size = 0
    while (member := reader.next()) is not None:
        count += 1
        try:
            entry = entry_of(member, marks=False)
        except ValueError as error:
            raise ImageInvalid(f"the archive's entry {tar.shown(member.name)} {error}") from None
        assert entry is not None
        size += entry.size
        if count > MAX_ENTRIES or size > MAX_UNPACKED:
            raise ImageInvalid(f"the archive has more than {MAX_ENTRIES} entries or {MAX_UNPACKED >> 40} TiB")
        sink.entry(entry)
        if entry.size:
            _push_content(reader, member, sink)
    reader.drain()


@dataclass(frozen=True, kw_only=True)
class _Tar(Layer):
    """A layer that is known by its file alone."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


class _Unpacking:
    """One pass over one blob."""

    def __init__(self, blob: BinaryIO, layer: Layer, sink: TreeSink, reporter: Reporter) -> None:
        self._layer = layer
        self._sink = sink
        self._blob = MeteredBlob(blob, layer, reporter)
        # Where the blob is the tar itself, one digest names both and is computed once.
        same = layer.compression is Compression.NONE and layer.digest == layer.diff_id
        self._diff_hash = None if same else digests.hasher(layer.diff_id)
        self._unpacked = 0
        self._files = 0
        self._tar = tar.TarReader(self._read, str(layer), release=sink.commit)

    def run(self) -> str:
        """Returns the digest of the content, in hexadecimal."""
        with closing(Ahead(self._blob.pieces(), _DEPTH)) as read, closing(self._hashed(read)) as pieces:
            self._chunks: Iterator[memoryview] = iter(())
            try:
                with ExitStack() as stages:
                    self._chunks = self._staged(pieces, stages)
                    self._entries()
                    self._tar.drain()
            except ImageInvalid as error:
                if self._blob.is_known and drained(pieces) and self._blob.is_complete and not self._blob.matches():
                    # broken content of a blob that is not the right one: say that instead, unless it is just too short
                    raise self._blob.mismatch() from error
                raise
            self._blob.check(drained(pieces))
        return self._layer.diff_id.partition(":")[2] if self._diff_hash is None else self._diff_hash.hexdigest()

    def _hashed(self, read: Iterator[memoryview]) -> Ahead[memoryview]:
        """The blob's pieces with their digest taken; for a tar that has a digest of its own, that of its content."""
        return Ahead(self._blob.hashed(read), _DEPTH)

    def _staged(self, pieces: Iterator[memoryview], stages: ExitStack) -> Iterator[memoryview]:
        """The tar's chunks: each stage that has work to do runs in a thread of its own until `stages` is left."""
        self._blob.check_magic(first := next(pieces, memoryview(b"")))
        staged = chunks(chain((first,), pieces) if first else iter(()), self._layer.compression)
        if self._layer.compression is not Compression.NONE:
            staged = stages.enter_context(closing(Ahead(staged, _DEPTH)))
        if self._diff_hash is not None:
            staged = stages.enter_context(closing(Ahead(digested(staged, self._diff_hash), _DEPTH)))
        return staged

    def _read(self) -> memoryview:
        chunk = next(self._chunks, memoryview(b""))
        self._unpacked += len(chunk)
        if self._unpacked > MAX_UNPACKED:
            raise ValueError(f"it unpacks to more than {MAX_UNPACKED >> 40} TiB")
        return chunk

    def _entries(self) -> None:
        reader, push, layer = self._tar, self._sink.entry, self._layer
        count = 0
        while (member := reader.next()) is not None:
            count += 1
            if count > MAX_ENTRIES:
                raise ImageInvalid(f"{layer} has more than {MAX_ENTRIES} entries")
            try:
                entry = entry_of(member)
            except ValueError as error:
                raise ImageInvalid(
                    f"{layer}: entry {tar.shown(member.name)} {error}", hint="the image cannot be used as it is"
                ) from None
            if entry is None:
                continue
            push(entry)
            if entry.size:
                self._content(member)

    def _content(self, member: tar.Member) -> None:
        self._files += member.size
        if self._files > MAX_UNPACKED:
            raise self._tar.fault(f"the layer's files are more than {MAX_UNPACKED >> 40} TiB")
        _push_content(self._tar, member, self._sink)


def _push_content(reader: tar.TarReader, member: tar.Member, sink: TreeSink) -> None:
    if member.extents is not None:
        _push_sparse(reader, member, sink)
        return
    data = sink.data
    while reader.left:
        data(reader.piece())


def _push_sparse(reader: tar.TarReader, member: tar.Member, sink: TreeSink) -> None:
    position = 0
    for offset, length in member.extents or ():
        if offset > position:
            sink.hole(offset - position)
        position = offset + length
        missing = length
        while missing:
            piece = reader.piece(missing)
            missing -= len(piece)
            sink.data(piece)
    if member.size > position:
        sink.hole(member.size - position)
