"""The options of every command that opens an image by its reference."""

from collections.abc import Callable
from typing import TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., object])


def image_options(platform: str = "what this host runs") -> Callable[[_Command], _Command]:
    """Give a command `--platform`, by default as the help says, and `--signature-policy`."""
    which = click.option(
        "--platform",
        metavar="linux/ARCH[/VARIANT]",
        envvar="DOCKER_DEFAULT_PLATFORM",
        help=f"Which of an image's platforms. [default: {platform}]",
    )
    whose = click.option("--signature-policy", metavar="FILE", help="What says whose images may be used.")
    return lambda command: which(whose(command))
