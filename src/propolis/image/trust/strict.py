"""JSON that is refused if anything in it is unknown, missing, doubled or of another type than it should be.

Pure. What says whom to trust must not be half understood. Errors are ValueError; callers know whose fault it is.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any


def load(data: bytes, what: str) -> dict[str, Any]:
    """Parse a document that is one object."""
    try:
        document = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{what} is not JSON: {error}") from None
    except ValueError as error:
        raise ValueError(f"{what} cannot be used: {error}") from None
    return mapping(document, what)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {next(name for name in found if names.count(name) > 1)[:80]!r} twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def mapping(value: Any, where: str) -> dict[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not an object")
    return value


def text(value: Any, where: str) -> str:
    """A string, not empty, that can be shown."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where} is not a string, or empty")
    if not value.isprintable():
        raise ValueError(f"{where} has control characters")
    return value


def items(value: Any, where: str, most: int) -> list[Any]:
    """A list that is not empty."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where} is not a list, or empty")
    if len(value) > most:
        raise ValueError(f"{where} has more than {most} items")
    return value


def check_keys(found: Mapping[str, Any], where: str, required: Collection[str], optional: Collection[str] = ()) -> None:
    """All of these and no others."""
    for key in found:
        if key not in required and key not in optional:
            raise ValueError(f"{where} has {key[:80]!r}, which is not known")
    for key in required:
        if key not in found:
            raise ValueError(f"{where} has no {key!r}")
