"""`propolis rmi`: names are taken from images, and images without one are removed."""

import click

from propolis.cli.render import printable, show_error
from propolis.errors import PropolisError
from propolis.images.collection import remove


@click.command("rmi")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-f", "--force", is_flag=True, help="Take the name from an image that is in use; take all of its names.")
def command(names: tuple[str, ...], force: bool) -> int:
    """Take names from images; with its last name an image is removed, but for what others are made of, too.

    NAME may also be a digest, or the beginning of one. Exits with 1 when an image is in use.
    """
    status = 0
    for name in names:
        try:
            collected = remove(name, force=force)
        except PropolisError as error:
            show_error(str(error), error.hint)
            status = status or error.exit_code
            continue
        for untagged in collected.untagged:
            click.echo(f"Untagged: {printable(untagged)}")
        for digest in dict.fromkeys(item.name for item in collected.removed):
            click.echo(f"Deleted: {digest}")
    return status
