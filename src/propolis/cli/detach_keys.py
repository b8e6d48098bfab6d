"""The keys that leave a machine alone: docker's spelling, and their recognition in what is typed. Pure."""

import re

from propolis.errors import InvalidArgument

DEFAULT = "ctrl-p,ctrl-q"
_CONTROL = re.compile(r"ctrl-([a-z@\[\\\]^_])")
_MOST_KEYS = 16


def parse(text: str) -> bytes:
    """The bytes of a sequence such as `ctrl-p,ctrl-q` or `ctrl-],x`; none for an empty one, which turns it off.

    Raises:
        InvalidArgument: that is no sequence of keys.
    """
    keys = text.split(",") if text else []
    if len(keys) > _MOST_KEYS:
        raise InvalidArgument(f"--detach-keys takes at most {_MOST_KEYS} keys")
    return bytes(_key(key, text) for key in keys)


def _key(key: str, text: str) -> int:
    if len(key) == 1 and key.isascii() and key.isprintable():
        return ord(key)
    if match := _CONTROL.fullmatch(key.lower()):
        return ord(match.group(1).upper()) & 0x1F
    raise InvalidArgument(
        f"--detach-keys {text[:60]!r} is no sequence of keys",
        hint="single characters and ctrl-LETTER (also ctrl-@ ctrl-[ ctrl-\\ ctrl-] ctrl-^ ctrl-_), joined by commas",
    )


class DetachKeys:
    """Finds the sequence in what is typed. Keys that may begin it are held back until the next one tells."""

    def __init__(self, sequence: bytes) -> None:
        self._sequence = sequence
        self._held = 0
        """How many keys of the sequence have been typed."""

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """What of it is for the workload, and whether the sequence is complete; what follows that is dropped."""
        if not self._sequence:
            return typed, False
        passed = bytearray()
        for key in typed:
            while self._held and key != self._sequence[self._held]:
                kept = self._overlap()
                passed += self._sequence[: self._held - kept]
                self._held = kept
            if key != self._sequence[self._held]:
                passed.append(key)
                continue
            self._held += 1
            if self._held == len(self._sequence):
                return bytes(passed), True
        return bytes(passed), False

    def _overlap(self) -> int:
        """How much of the end of what is held may itself begin the sequence."""
        held = self._sequence[: self._held]
        return next(size for size in range(len(held) - 1, -1, -1) if held.endswith(held[:size]))
