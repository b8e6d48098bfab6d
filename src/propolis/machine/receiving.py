"""The receiving half of a copy out of a machine: its archive becomes files here, where it can be trusted with nothing.

Where directories can be opened, which leaves out Windows (`host.directory_sink`).
"""

import sys

assert sys.platform != "win32"

from collections.abc import Callable
from pathlib import Path

import anyio.from_thread

from propolis.agent.process import GuestProcess
from propolis.errors import DiskError, PropolisError
from propolis.host.directory_sink import DirectorySink
from propolis.host.files import stage_directory, storage_errors
from propolis.image.layers import push_archive
from propolis.image.tar import BLOCK
from propolis.tree import Entry, Kind

_PIECE = 256 << 10


def receive(process: GuestProcess, final: Path, preserve: bool) -> int:
    """Take the archive that `process` prints, and give it the name `final` when complete; how much was left out.

    Raises:
        ImageInvalid: it is no good archive.
        StorageFull, DiskError: it cannot be written.
    """
    try:
        with storage_errors(final), stage_directory(final) as directory:
            return _unpack(process, directory, final, preserve)
    except PropolisError:
        raise
    except OSError as error:
        raise DiskError(f"cannot write {final}: {error.strerror}", hint="choose another place") from error


def _unpack(process: GuestProcess, directory: Path, final: Path, preserve: bool) -> int:
    sink = _Named(DirectorySink(directory, preserve=preserve), b"tree")
    try:
        push_archive(_blocks(lambda: anyio.from_thread.run(process.stdout.receive, _PIECE)), sink)
        sink.close()
    finally:
        sink.abandon()
    # what came may be complete or not: the exit status tells
    if not sink.entries or anyio.from_thread.run(process.wait).shell_code:
        return 0
    (directory / "tree").replace(final)
    return sink.left_out


def _blocks(receive: Callable[[], bytes]) -> Callable[[], memoryview]:
    """Pieces of whole blocks, but for the last."""
    rest = bytearray()

    def read() -> memoryview:
        while len(rest) < BLOCK and (piece := receive()):
            rest.extend(piece)
        whole = len(rest) - len(rest) % BLOCK or len(rest)
        block = bytes(rest[:whole])
        del rest[:whole]
        return memoryview(block)

    return read


class _Named:
    """A `TreeSink` that gives the tree's root a name in another one's."""

    def __init__(self, sink: DirectorySink, name: bytes) -> None:
        self._sink = sink
        self._name = name
        self.data, self.hole, self.commit = sink.data, sink.hole, sink.commit
        self.close, self.abandon = sink.close, sink.abandon
        self.entries = 0

    def entry(self, entry: Entry) -> None:
        self.entries += 1
        path = self._name + b"/" + entry.path if entry.path else self._name
        link = self._name + b"/" + entry.link if entry.kind is Kind.HARDLINK else entry.link
        self._sink.entry(entry._replace(path=path, link=link))

    @property
    def left_out(self) -> int:
        return self._sink.left_out
