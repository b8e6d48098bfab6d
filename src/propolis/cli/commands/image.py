"""`propolis image`: what is done with images as a whole."""

import json
import sys

import click

from propolis.cli.render import printable
from propolis.cli.table import format_options, size_text
from propolis.errors import InvalidArgument
from propolis.images.collection import Collected, prune


@click.group("image")
def command() -> None:
    """Look after the images of this host."""


@command.command("prune", short_help="Remove images without a name, and leftovers.")
@click.option("-a", "--all", "everything", is_flag=True, help="Also images with a name that no machine uses.")
@click.option(
    "--blobs", is_flag=True, help="Also layers as they came, if a registry has them and their disks are made."
)
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@format_options("text", what="one object")
def prune_command(everything: bool, blobs: bool, force: bool, dry_run: bool, form: str) -> int:
    """Remove images without a name, and what is damaged, of no use any more, or was left half done.

    What a machine uses, running or starting, stays.
    """
    if not (force or dry_run or _is_wanted(everything)):
        click.echo("Nothing was removed.", err=True)
        return 1
    collected = prune(all=everything, blobs=blobs, dry_run=dry_run)
    if form == "json":
        click.echo(json.dumps(_as_json(collected)))
        return 0
    for name in collected.untagged:
        click.echo(f"{'Would untag' if dry_run else 'Untagged'}: {printable(name)}")
    for item in collected.removed:
        click.echo(f"{'Would delete' if dry_run else 'Deleted'}: {item.kind} {item.name} {size_text(item.size)}")
    click.echo(f"Total reclaim{'able' if dry_run else 'ed'} space: {size_text(collected.size)}")
    return 0


def _is_wanted(everything: bool) -> bool:
    if not sys.stdin.isatty():
        raise InvalidArgument(
            "nobody is there to be asked whether to remove images", hint="add -f, or --dry-run to look"
        )
    what = "all images that no machine uses" if everything else "all images without a name"
    click.echo(f"WARNING! This will remove {what}.", err=True)
    return click.confirm("Are you sure you want to continue?", err=True)


def _as_json(collected: Collected) -> dict[str, object]:
    removed = [{"kind": item.kind, "name": item.name, "size": item.size} for item in collected.removed]
    return {"untagged": list(collected.untagged), "removed": removed, "size": collected.size}
