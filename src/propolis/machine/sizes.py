"""Sizes as people write them. Pure."""

import re

from propolis.errors import InvalidArgument

_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([kmgt]?)(i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(text: str | int) -> int:
    """Bytes from `536870912`, `512m`, `512MiB`, `0.5G`; units are powers of 1024, as docker has them.

    Raises:
        InvalidArgument: it is not a size.
    """
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidArgument(f"{text!r} is not a size", hint="write it like 512MiB or 2g")
    return int(float(match[1]) * _UNITS[match[2].lower()])
