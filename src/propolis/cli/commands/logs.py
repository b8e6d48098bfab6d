"""`propolis logs`: what a machine's workload has printed, as far back as its owner keeps it."""

import anyio
import click

from propolis.cli import streams
from propolis.errors import CommandNotFound, InvalidArgument, MachineError
from propolis.machine.connecting import connected
from propolis.machine.grouping import ungrouped


@click.command("logs")
@click.argument("machine")
@click.option("-f", "--follow", is_flag=True, help="Go on with what it prints from now on.")
@click.option("-n", "--tail", type=click.IntRange(min=0), metavar="N", help="Begin with the last N lines.")
@click.option("--console", is_flag=True, help="What its kernel and init printed instead.")
def command(machine: str, follow: bool, tail: int | None, console: bool) -> None:
    """Print the last mebibyte of both outputs of MACHINE's workload."""
    if console and (follow or tail is not None):
        raise InvalidArgument("--console is printed as it is now, all of it", hint="leave out --follow and --tail")
    words = ["host.logs", *(["follow"] if follow else []), *([] if tail is None else [f"tail={tail}"])]
    words = ["host.console"] if console else words
    with ungrouped():
        anyio.run(_print, machine, words)


async def _print(name: str, words: list[str]) -> None:
    write = streams.writer(streams.STDOUT)
    async with connected(name) as machine:
        try:
            async with machine.programs.running(*words) as process:
                async for piece in process.stdout:
                    await write(piece)
        except CommandNotFound as error:
            raise MachineError(
                f"the output of {machine.record.name} is not kept: it goes where the command that runs it was told to",
                hint="start it with -d or -it, or from Python, to have it kept",
            ) from error
