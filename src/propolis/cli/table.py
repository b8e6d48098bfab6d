"""Results as text for people: tables, sizes, times. Everything that is shown may come from an image."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

import click

from propolis.cli.render import printable

_Command = TypeVar("_Command", bound=Callable[..., object])
_UNITS = ("B", "kB", "MB", "GB", "TB")
_PERIODS = (
    (31536000, "years"),
    (2592000, "months"),
    (604800, "weeks"),
    (86400, "days"),
    (3600, "hours"),
    (60, "minutes"),
)


def format_options(plain: str = "table", *, what: str = "one object a line") -> Callable[[_Command], _Command]:
    """Give a command `--format` and `--json`; it gets `plain` or `json` as `form`."""
    form = click.option(
        "--format",
        "form",
        type=click.Choice([plain, "json"]),
        default=plain,
        callback=lambda context, _parameter, given: "json" if context.meta.get(__name__) else given,
        help=f"json: {what}.",
    )
    short = click.option(
        "--json", is_flag=True, expose_value=False, is_eager=True, callback=_json, help="--format json"
    )
    return lambda command: form(short(command))


def _json(context: click.Context, _parameter: click.Parameter, given: bool) -> None:
    context.meta[__name__] = given


def show_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below their titles, in columns as wide as they need to be."""
    cells = [tuple(titles), *(tuple(printable(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles))]
    for row in cells:
        click.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def size_text(size: int) -> str:
    """Bytes as docker shows them: three digits and a decimal unit."""
    value, unit = float(size), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g}{_UNITS[unit]}"


def age_text(seconds: float) -> str:
    """How long ago that was, in the largest unit of which there are two; empty for what was at no time."""
    passed = time.time() - seconds
    for length, unit in _PERIODS:
        if passed >= 2 * length:
            return f"{passed // length:.0f} {unit} ago"
    return "just now" if passed < 2 * 60 and passed > -86400 else "in the future"


def created_text(created: str) -> str:
    """How long ago a time in RFC 3339 was; as it is, if it is none; empty where it is empty."""
    try:
        # more digits of a second than Python has are cut off by it from 3.11 on
        return age_text(datetime.fromisoformat(created).timestamp()) if created else ""
    except (ValueError, OverflowError, OSError):
        return created
