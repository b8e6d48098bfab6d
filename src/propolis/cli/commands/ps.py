"""`propolis ps`: the machines that run, whoever owns them."""

import json
import time

import click

from propolis.cli.table import format_options, show_table
from propolis.host.directories import data_directory
from propolis.machine.control import SOCKET
from propolis.state.record import MachineRecord
from propolis.state.store import MachineStore, has_ended

_TITLES = ("MACHINE ID", "NAME", "IMAGE", "STATUS", "OWNER")


@click.command("ps")
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@click.option(
    "-a",
    "--all",
    is_flag=True,
    expose_value=False,
    help="Accepted for docker's sake: those that ended are gone.",
)
@format_options()
def command(quiet: bool, form: str) -> None:
    """List the machines that run."""
    machines = MachineStore(data_directory()).living()
    if quiet:
        for machine in machines:
            click.echo(machine.id)
    elif form == "json":
        for machine in machines:
            click.echo(json.dumps(_described(machine)))
    else:
        show_table(_TITLES, [tuple(map(str, _described(machine).values()))[: len(_TITLES)] for machine in machines])


def _described(machine: MachineRecord) -> dict[str, str | int | float | None]:
    since = _since(machine)
    return {
        "id": machine.id,
        "name": machine.name,
        "image": machine.image,
        "status": "ended" if has_ended(machine) else _status(since),
        "owner": machine.owner.pid,
        "since": since,
    }


def _status(since: float | None) -> str:
    return "starting" if since is None else f"up {_duration(time.time() - since)}"


def _since(machine: MachineRecord) -> float | None:
    """When it was up, in seconds since the epoch."""
    try:
        return (machine.directory / SOCKET).stat().st_mtime  # it is made then
    except OSError:
        return None


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
