"""`propolis tag`: another name for an image."""

import click

from propolis.images.catalog import tag


@click.command("tag")
@click.argument("source", metavar="IMAGE")
@click.argument("target", metavar="NAME[:TAG]")
def command(source: str, target: str) -> None:
    """Give IMAGE, which is on this host, another name; an image that had the name loses it."""
    tag(source, target)
