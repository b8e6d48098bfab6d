"""`propolis images`: the images of this host."""

import json
from dataclasses import asdict

import click

from propolis.cli.table import age_text, created_text, format_options, show_table, size_text
from propolis.image.registry.name import parse_name
from propolis.images.catalog import ImageSummary, list_images

_TITLES = ("REPOSITORY", "TAG", "IMAGE ID", "PLATFORM", "CREATED", "LAST USED", "SIZE", "UNIQUE")
_ID = 12
_NOTHING = "<none>"


@click.command("images")
@click.argument("name", required=False, default="")
@click.option("-q", "--quiet", is_flag=True, help="Print digests only.")
@click.option("--digests", "with_digests", is_flag=True, help="Show digests in full.")
@format_options()
def command(name: str, quiet: bool, with_digests: bool, form: str) -> None:
    """List the images of this host; only those of the repository NAME, or called NAME:TAG, if it is given.

    SIZE is what an image takes here, as it came and as disks; UNIQUE is the part of it that it shares with no other.
    One of which not everything is here has a star.
    """
    images = list_images(name)
    if quiet:
        for digest in dict.fromkeys(image.digest for image in images):
            click.echo(digest)
    elif form == "json":
        for image in images:
            click.echo(json.dumps(asdict(image)))
    else:
        show_table(_TITLES, [_row(image, with_digests) for image in images])


def _row(image: ImageSummary, with_digests: bool) -> tuple[str, ...]:
    name = parse_name(image.name) if image.name else None
    return (
        name.familiar if name else _NOTHING,
        (name and name.tag) or _NOTHING,
        image.digest if with_digests else image.digest.partition(":")[2][:_ID],
        ", ".join(image.platforms),
        created_text(image.created),
        age_text(image.used),
        size_text(image.size) + ("" if image.is_complete else "*"),
        size_text(image.unique),
    )
