"""`propolis pull`: an image comes from its registry into the cache."""

import threading
from collections.abc import Callable
from functools import partial

import click

from propolis.cli.image_options import image_options
from propolis.cli.progress import Mode, Progress, progress_options
from propolis.cli.render import printable
from propolis.image.source import Image
from propolis.machine.pulling import pull
from propolis.progress import Revocable

_REFRESH = 0.1
"""Seconds between two looks at how long it takes."""


@click.command("pull")
@click.argument("image")
@click.option("--backend", metavar="NAME", help="Make it ready for this hypervisor backend.")
@image_options()
@progress_options
def command(image: str, backend: str | None, platform: str | None, signature_policy: str | None, progress: Mode) -> int:
    """Fetch IMAGE and make it ready to run; what is here already is not fetched again.

    A platform may be one that this host does not run.

    Prints the image in full, with its digest. What an interrupted pull got is kept for the next one.
    """
    reporter = Progress(progress)
    try:
        with Revocable(reporter) as revocable:
            work = partial(
                pull,
                image,
                backend=backend,
                platform=platform,
                signature_policy=signature_policy,
                reporter=revocable,
            )
            pulled = _watched(work, reporter)
    finally:
        reporter.close()
    reference = pulled.reference.partition("@")[0]
    click.echo(printable(f"{reference}@{pulled.digest}"))
    return 0


def _watched(work: Callable[[], Image], progress: Progress) -> Image:
    """Work in a thread, so that an interrupt need not wait for it; show on a terminal what takes long."""
    done: list[Image | BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001 - it belongs to who waits
            done.append(error)

    thread = threading.Thread(target=run, name="propolis-pull")
    thread.start()
    while thread.is_alive():
        thread.join(_REFRESH)
        progress.refresh()
    (result,) = done
    if isinstance(result, BaseException):
        raise result
    return result
