"""`propolis save`: images become an archive."""

import sys
from pathlib import Path

import click

from propolis.cli.progress import Mode, Progress, progress_options
from propolis.errors import InvalidArgument
from propolis.images.saving import save


@click.command("save")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to this file instead of standard output.")
@progress_options
def command(names: tuple[str, ...], output: Path | None, progress: Mode) -> None:
    """Write images of this host into one archive, which propolis load, docker load, podman, skopeo and umoci take.

    It is an OCI image layout; the images keep their digests. A file is there whole or not at all.
    """
    if output is None and sys.stdout.isatty():
        raise InvalidArgument("an archive is not for a terminal", hint="add -o FILE, or redirect the output")
    reporter = Progress(progress)
    try:
        save(names, sys.stdout.buffer if output is None else output, reporter=reporter)
        if output is None:
            sys.stdout.buffer.flush()
    finally:
        reporter.close()
