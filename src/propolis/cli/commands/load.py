"""`propolis load`: images from an archive are taken into the store."""

import sys

import click

from propolis.cli.progress import Mode, Progress, progress_options
from propolis.cli.render import printable
from propolis.errors import InvalidArgument
from propolis.images.loading import load


@click.command("load")
@click.option("-i", "--input", "source", metavar="PATH", help="Read this file or layout instead of standard input.")
@progress_options
def command(source: str | None, progress: Mode) -> None:
    """Take all images from an archive, also a compressed one: of docker save, podman save, skopeo or propolis save.

    Afterwards they run without it. An image without a name is told by its digest; propolis tag gives it one.
    """
    if source is None and sys.stdin.isatty():
        raise InvalidArgument("there is nothing to load: standard input is a terminal", hint="add -i FILE")
    reporter = Progress(progress)
    try:
        loaded = load(sys.stdin.buffer if source is None else source, reporter=reporter)
    finally:
        reporter.close()
    for image in loaded:
        for name in image.names:
            click.echo(f"Loaded image: {printable(name)}")
        if not image.names:
            click.echo(f"Loaded image ID: {image.digest}")
