"""Archives that cannot be read in place (compressed ones, standard input, what a daemon sends), as files in the cache.

Uncompressed, bounded, removed when closed or when the next one is made after a kill. Knows nothing of what they hold.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Generator, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from queue import Empty, Queue

from propolis.errors import ImageError, ImageInvalid, InvalidArgument
from propolis.host.files import Scratch, storage_errors
from propolis.image.compression import MAGIC_LENGTH, Compression, sniff
from propolis.image.files import open_regular
from propolis.progress import Reporter, Silent

MAX_SPOOLED = 256 << 30
"""Bytes of one archive, uncompressed."""
STANDARD_INPUT = Path("-")
_PIECE = 256 << 10
_AHEAD = 8
"""Pieces that are read before they are asked for."""
_TICK = 0.1
"""Seconds between two looks at whether anybody still waits for what is read."""
_STEP = "read archive"


class Spooled:
    """A copy of an archive."""

    def __init__(self, scratch: Scratch, size: int, digest: str) -> None:
        self._scratch = scratch
        self.path = scratch.path
        self.size = size
        self.digest = digest
        """Of the uncompressed bytes."""

    def close(self) -> None:
        """Remove it. Idempotent."""
        self._scratch.close()


def spooled(path: Path, directory: Path, reporter: Reporter | None = None) -> Spooled:
    """Copy the archive at `path`, or standard input for `-`, into `directory`.

    Raises:
        ImageNotFound, ImageError: it is not there, or cannot be read.
        InvalidArgument: standard input is a terminal.
        ImageInvalid: it is empty, broken, or too large.
        StorageFull, DiskError: there is no room for it.
    """
    if path == STANDARD_INPUT:
        if os.isatty(0):
            raise InvalidArgument("standard input is a terminal, not an archive", hint="write < FILE or a pipe")
        what = shown(path)
        waiting = partial((reporter or Silent()).advance, _STEP, what)
        return spool(_read(_awaited(lambda: os.read(0, _PIECE), waiting), what), directory, what, reporter)
    file, size = open_regular(path, str(path))
    with file:
        return spool(_read(lambda: file.read(_PIECE), str(path)), directory, str(path), reporter, size)


def spool(
    pieces: Iterator[memoryview],
    directory: Path,
    what: str,
    reporter: Reporter | None = None,
    size: int | None = None,
    limit: int = MAX_SPOOLED,
) -> Spooled:
    """Write `pieces`, uncompressed, to a file in `directory`; `size` is how many bytes will come, where that is known.

    Raises:
        ImageInvalid: nothing comes, or it is broken or larger than `limit` bytes.
        StorageFull, DiskError: there is no room for it.
        Whatever `pieces` raises.
    """
    reporter = reporter or Silent()
    reporter.begin(_STEP, what, size)

    def told() -> Iterator[memoryview]:
        for piece in pieces:
            reporter.advance(_STEP, what, len(piece))
            yield piece

    content = uncompressed(told(), what)
    first = next(content, None)
    if first is None:
        raise ImageInvalid(f"{what} is empty", hint="see what was to write it")
    scratch = Scratch(directory, "archive")
    try:
        count, digest = _write(scratch, chain((first,), content), what, limit)
    except BaseException:
        scratch.close()
        raise
    reporter.end(_STEP, what)
    return Spooled(scratch, count, digest)


def uncompressed(pieces: Iterator[memoryview], what: str) -> Iterator[memoryview]:
    """The content of what comes in `pieces`, told by its first bytes; a view holds until the next one is taken.

    Raises:
        ImageInvalid: the compressed data is broken or ends too early.
    """
    head = b""
    while len(head) < MAGIC_LENGTH and (piece := next(pieces, None)):
        head += piece
    rest = chain((memoryview(head),), pieces) if head else iter(())
    compression = sniff(head[:MAGIC_LENGTH])
    if compression is Compression.NONE:
        yield from rest
        return
    from propolis.image.decompression import chunks

    try:
        yield from chunks(rest, compression)
    except (EOFError, ValueError) as error:
        raise ImageInvalid(f"{what} cannot be uncompressed: {error}", hint="get another copy") from None


def shown(path: Path) -> str:
    """How messages name an archive."""
    return "standard input" if path == STANDARD_INPUT else str(path)


def pieces_of(path: Path) -> Generator[memoryview, None, None]:
    """The bytes of a file.

    Raises:
        ImageNotFound, ImageError: it is not there, or cannot be read.
    """
    file, _ = open_regular(path, str(path))
    with file:
        yield from _read(lambda: file.read(_PIECE), str(path))


def _read(read: Callable[[], bytes], what: str) -> Iterator[memoryview]:
    while True:
        try:
            piece = read()
        except OSError as error:
            raise ImageError(f"cannot read {what}: {error.strerror}", hint="check that it is open and whole") from error
        if not piece:
            return
        yield memoryview(piece)


def _awaited(read: Callable[[], bytes], waiting: Callable[[], None]) -> Callable[[], bytes]:
    """Read from who may be slow: `waiting` is called meanwhile, and may raise. The thread that waits is left then."""
    pieces = Queue[bytes | OSError](_AHEAD)

    def run() -> None:
        piece: bytes | OSError = b"x"
        while isinstance(piece, bytes) and piece:
            try:
                piece = read()
            except OSError as error:
                piece = error
            pieces.put(piece)

    def take() -> bytes:
        while True:
            try:
                piece = pieces.get(timeout=_TICK)
            except Empty:
                waiting()
                continue
            if isinstance(piece, OSError):
                raise piece
            return piece

    threading.Thread(target=run, name="propolis-input", daemon=True).start()
    return take


def _write(scratch: Scratch, pieces: Iterator[memoryview], what: str, limit: int) -> tuple[int, str]:
    hashed = hashlib.sha256()
    count = 0
    for piece in pieces:
        count += len(piece)
        if count > limit:
            raise ImageInvalid(f"{what} is larger than {limit >> 20} MiB", hint="it cannot be used as it is")
        hashed.update(piece)
        with storage_errors(scratch.path):
            view = piece
            while view:
                view = view[os.write(scratch.descriptor, view) :]
    return count, f"sha256:{hashed.hexdigest()}"
