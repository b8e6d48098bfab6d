"""What a registry says about a failure, fit to be shown: bounded, in one line, without control characters and secrets.

Pure. Follows the error documents of the OCI distribution specification, `{"errors": [{"code", "message"}]}`.
"""

import json
from collections.abc import Iterable
from typing import Any

MAX_BODY = 64 << 10
"""Bytes of an answer that are looked at."""
_MOST_ERRORS = 3
_MOST_CHARACTERS = 200


def words(body: bytes, secrets: Iterable[str] = ()) -> str:
    """What to put behind "answers 404": `: manifest unknown (MANIFEST_UNKNOWN)`; empty when it says nothing."""
    try:
        document = json.loads(body[:MAX_BODY])
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    hidden = tuple(secrets)
    listed = document.get("errors")
    told = [_one(item, hidden) for item in listed[:_MOST_ERRORS]] if isinstance(listed, list) else []
    told = [text for text in told if text] or [
        _line(document.get(key), hidden) for key in ("details", "message", "error")
    ]
    text = "; ".join(text for text in told if text)
    return f": {text}" if text else ""


def _one(item: Any, hidden: Iterable[str]) -> str:
    if not isinstance(item, dict):
        return ""
    message, code = _line(item.get("message"), hidden), _line(item.get("code"), hidden)
    return f"{message} ({code})" if message and code else message or code


def _line(value: Any, hidden: Iterable[str]) -> str:
    if not isinstance(value, str):
        return ""
    for secret in hidden:
        value = value.replace(secret, "***")
    text = " ".join(value[: 10 * _MOST_CHARACTERS].split())
    return "".join(character for character in text if character.isprintable())[:_MOST_CHARACTERS]
