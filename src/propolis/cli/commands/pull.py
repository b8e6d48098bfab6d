"""`propolis pull`: an image comes from its registry into the cache."""

import threading

import click

from propolis.cli.render import Progress, printable
from propolis.machine.pulling import pull

_REFRESH = 0.1
"""Seconds between two looks at how long it takes."""


@click.command("pull")
@click.argument("image")
@click.option("--backend", metavar="NAME", help="Make it ready for this hypervisor backend.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no notices.")
def command(image: str, backend: str | None, quiet: bool) -> int:
    """Fetch IMAGE and make it ready to run; what is here already is not fetched again.

    Prints the image in full, with its digest.
    """
    progress = Progress(quiet=quiet)
    done = threading.Event()

    def show() -> None:
        while not done.wait(_REFRESH):
            progress.refresh()

    threading.Thread(target=show, daemon=True).start()
    try:
        pulled = pull(image, backend=backend, reporter=progress)
    finally:
        done.set()
        progress.wipe()
    reference = pulled.reference.partition("@")[0]
    click.echo(printable(f"{reference}@{pulled.digest}"))
    return 0
