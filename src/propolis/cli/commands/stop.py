"""`propolis stop`: end machines, whoever owns them."""

import math

import anyio
import click

from propolis.errors import InvalidArgument
from propolis.machine.connecting import stop
from propolis.machine.grouping import ungrouped
from propolis.machine.handle import STOP_TIMEOUT

_MOST_GRACE = 600.0


@click.command("stop")
@click.argument("machines", metavar="MACHINE...", nargs=-1, required=True)
@click.option(
    "-t", "--time", "grace", type=float, default=STOP_TIMEOUT, show_default=True, metavar="SECONDS",
    help="How long its processes may take to end after SIGTERM.",
)  # fmt: skip
def command(machines: tuple[str, ...], grace: float) -> None:
    """End each MACHINE: its name, its id, or as much of its id as is unique. Nothing of it is left afterwards."""
    if not (math.isfinite(grace) and 0 <= grace <= _MOST_GRACE):
        raise InvalidArgument(f"--time {grace:g} is not between 0 and {_MOST_GRACE:g} s")
    for name in machines:
        with ungrouped():
            anyio.run(stop, name, grace)
        click.echo(name)
