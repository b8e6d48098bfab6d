"""JSON from strangers: bounded, and read field by field so that a fault names its field.

Pure. Knows nothing of images. `null` counts as absent, because Go writes it for empty lists and maps.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from propolis.errors import ImageInvalid

MAX_DOCUMENT = 4 << 20
"""Bytes; the limit that registries put on manifests."""
_LONGEST_SHOWN = 80
"""Characters of a key, which may be the stranger's own."""


def load(data: bytes, what: str) -> Any:
    """Parse one JSON document; `what` names it in messages.

    Raises:
        ImageInvalid: too large, not UTF-8, not JSON, or nested too deeply.
    """
    if len(data) > MAX_DOCUMENT:
        raise ImageInvalid(f"{what} is larger than {MAX_DOCUMENT >> 20} MiB")
    try:
        return json.loads(data.decode("utf-8"))
    except RecursionError:
        raise ImageInvalid(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise ImageInvalid(f"{what} is not JSON: {error}") from None


class Fields:
    """One JSON object and its place in the document. Each reader raises ImageInvalid on a wrong type or a bad value."""

    __slots__ = ("_values", "_what", "_where")

    def __init__(self, value: Any, what: str, where: str = "") -> None:
        self._what = what
        self._where = where
        if not isinstance(value, dict):
            raise ImageInvalid(f"{self.at('') if where else what} is not a JSON object")
        self._values: dict[str, Any] = value

    @classmethod
    def parse(cls, data: bytes, what: str) -> "Fields":
        """Parse a document that is one object; errors as `load`."""
        return cls(load(data, what), what)

    def at(self, key: str) -> str:
        """How a message names the field `key`."""
        path = ".".join(part for part in (self._where, key[:_LONGEST_SHOWN]) if part)
        return f"{self._what}: {path}"

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def text(self, key: str, default: str | None = None) -> str:
        """A string; required when there is no default."""
        value = self._values.get(key)
        if value is None:
            if default is None:
                raise ImageInvalid(f"{self.at(key)} is missing")
            return default
        return _checked_text(value, self.at(key))

    def integer(self, key: str, limit: int) -> int:
        """A required whole number from 0 to `limit`."""
        value = self._values.get(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ImageInvalid(f"{self.at(key)} is {'missing' if value is None else 'not a whole number'}")
        if not 0 <= value <= limit:
            raise ImageInvalid(f"{self.at(key)} is not between 0 and {limit}")
        return value

    def texts(self, key: str, limit: int) -> tuple[str, ...]:
        """A list of strings, empty when absent."""
        where = self.at(key)
        return tuple(_checked_text(value, f"{where}[{i}]") for i, value in enumerate(self._list(key, limit)))

    def mapping(self, key: str) -> "Fields | None":
        """An object, None when absent."""
        value = self._values.get(key)
        return None if value is None else Fields(value, self._what, f"{self._where}.{key}".lstrip("."))

    def objects(self, key: str, limit: int) -> list["Fields"]:
        """A list of objects, empty when absent."""
        where = f"{self._where}.{key}".lstrip(".")
        return [Fields(value, self._what, f"{where}[{i}]") for i, value in enumerate(self._list(key, limit))]

    def strings_by_name(self, key: str) -> Mapping[str, str]:
        """An object whose values are all strings, empty when absent."""
        found = self.mapping(key)
        return {} if found is None else {name: found.text(name, "") for name in found}

    def _list(self, key: str, limit: int) -> list[Any]:
        value = self._values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise ImageInvalid(f"{self.at(key)} is not a list")
        if len(value) > limit:
            raise ImageInvalid(f"{self.at(key)} has {len(value)} items; at most {limit} are accepted")
        return value


def _checked_text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ImageInvalid(f"{where} is not a string")
    if "\0" in value:
        raise ImageInvalid(f"{where} contains a NUL character")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ImageInvalid(f"{where} contains half of a surrogate pair") from None
    return value
