"""`propolis df`: what propolis takes from this host."""

import json
from dataclasses import asdict

import click

from propolis.cli.table import format_options, show_table, size_text
from propolis.images.space import Usage, usage

_TITLES = ("TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE")


@click.command("df")
@format_options()
def command(form: str) -> None:
    """Show what propolis takes from this host: as it is allocated, what is shared counted once.

    RECLAIMABLE is what `propolis image prune --all` frees; for machines, `propolis doctor --fix`.
    """
    found = usage()
    if form == "json":
        for item in found:
            click.echo(json.dumps(asdict(item)))
    else:
        show_table(_TITLES, [_row(item) for item in found])


def _row(item: Usage) -> tuple[str, ...]:
    if item.kind == "images":
        return (item.kind, str(item.total), str(item.active), "", "")
    share = f" ({100 * item.reclaimable // item.size}%)" if item.size else ""
    return (item.kind, str(item.total), str(item.active), size_text(item.size), f"{size_text(item.reclaimable)}{share}")
