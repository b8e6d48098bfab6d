"""`propolis inspect`: all that is known of images."""

import json

import click

from propolis.images.catalog import inspect


@click.command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def command(names: tuple[str, ...]) -> None:
    """Print what is known of images on this host as a JSON array: names, config, layers with their disks, machines."""
    click.echo(json.dumps(inspect(*names), indent=2))
