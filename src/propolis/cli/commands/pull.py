"""`propolis pull`: an image comes from its registry into the cache."""

import threading
from collections.abc import Callable

import click

from propolis.cli.render import Progress, printable
from propolis.image.source import Image
from propolis.machine.pulling import pull

_REFRESH = 0.1
"""Seconds between two looks at how long it takes."""


@click.command("pull")
@click.argument("image")
@click.option("--backend", metavar="NAME", help="Make it ready for this hypervisor backend.")
@click.option(
    "--platform",
    metavar="linux/ARCH[/VARIANT]",
    envvar="DOCKER_DEFAULT_PLATFORM",
    help="Which of an image's platforms. [default: what this host runs]",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress and no notices.")
def command(image: str, backend: str | None, platform: str | None, quiet: bool) -> int:
    """Fetch IMAGE and make it ready to run; what is here already is not fetched again.

    A platform may be one that this host does not run.

    Prints the image in full, with its digest. What an interrupted pull got is kept for the next one.
    """
    progress = _Stoppable(quiet=quiet)
    try:
        pulled = _watched(lambda: pull(image, backend=backend, platform=platform, reporter=progress), progress)
    finally:
        progress.stopped = True
        progress.wipe()
    reference = pulled.reference.partition("@")[0]
    click.echo(printable(f"{reference}@{pulled.digest}"))
    return 0


class _Stopped(Exception):
    """Raised in threads whose work nobody waits for any more."""


class _Stoppable(Progress):
    """Ends work at its next report once it is `stopped`."""

    stopped = False

    def begin(self, step: str, subject: str = "", total: int | None = None) -> None:
        """See `Reporter.begin`."""
        self._check()
        super().begin(step, subject, total)

    def advance(self, step: str, subject: str = "", amount: int = 0) -> None:
        """See `Reporter.advance`."""
        self._check()
        super().advance(step, subject, amount)

    def _check(self) -> None:
        if self.stopped:
            raise _Stopped


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
