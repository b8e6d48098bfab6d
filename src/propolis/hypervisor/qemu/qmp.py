"""The QEMU Machine Protocol without I/O: bytes in, replies and events out.

Follows docs/interop/qmp-spec: one JSON object per line; a greeting first, then `qmp_capabilities`, then commands, each
answered in order; events come in between. The peer is our own QEMU, but what it relays may be shaped by the guest, so
every line is bounded.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from propolis.errors import BackendError

MAX_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class Greeting:
    """QEMU is ready to negotiate; `version` is (major, minor, micro)."""

    version: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to the oldest unanswered command: its value, or QEMU's description of the error."""

    value: Any
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened, for example SHUTDOWN with its reason."""

    name: str
    data: dict[str, Any]


Message = Greeting | Reply | Event


class Connection:
    """One QMP conversation."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @staticmethod
    def command(name: str, /, **arguments: Any) -> bytes:
        """The bytes of a command; QMP spells arguments with hyphens, so `_` becomes `-`."""
        document: dict[str, Any] = {"execute": name}
        if arguments:
            document["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
        return json.dumps(document).encode() + b"\r\n"

    def receive(self, data: bytes) -> Iterator[Message]:
        """Take bytes and yield what they complete.

        Raises:
            BackendError: the bytes are not QMP, or a line is longer than MAX_LINE.
        """
        self._buffer += data
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            if line.strip():
                yield _parse(line)
        if len(self._buffer) > MAX_LINE:
            raise BackendError("QEMU sent an endless line on its monitor")


def _parse(line: bytes) -> Message:
    try:
        document = json.loads(line)
        if "QMP" in document:
            version = document["QMP"]["version"]["qemu"]
            return Greeting((version["major"], version["minor"], version["micro"]))
        if "event" in document:
            return Event(document["event"], document.get("data", {}))
        if "error" in document:
            return Reply(None, str(document["error"]["desc"]))
        return Reply(document["return"])
    except (ValueError, KeyError, TypeError) as error:
        raise BackendError(f"QEMU's monitor sent something that is not QMP: {line[:80]!r}") from error
