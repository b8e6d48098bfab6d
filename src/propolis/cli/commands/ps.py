"""`propolis ps`: the machines that run, whoever owns them."""

import json
import time

import click

from propolis.cli.table import show_table
from propolis.host.directories import data_directory
from propolis.machine.control import SOCKET
from propolis.state.record import MachineRecord
from propolis.state.store import MachineStore

_TITLES = ("MACHINE ID", "NAME", "IMAGE", "STATUS", "OWNER")


@click.command("ps")
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def command(quiet: bool, as_json: bool) -> None:
    """List the machines that run."""
    machines = MachineStore(data_directory()).living()
    if quiet:
        for machine in machines:
            click.echo(machine.id)
    elif as_json:
        for machine in machines:
            click.echo(json.dumps(_described(machine)))
    else:
        show_table(_TITLES, [tuple(map(str, _described(machine).values())) for machine in machines])


def _described(machine: MachineRecord) -> dict[str, str | int]:
    return {
        "id": machine.id,
        "name": machine.name,
        "image": machine.image,
        "status": _status(machine),
        "owner": machine.owner.pid,
    }


def _status(machine: MachineRecord) -> str:
    try:
        since = (machine.directory / SOCKET).stat().st_mtime  # it is made when the machine is up
    except OSError:
        return "starting"
    return f"up {_duration(time.time() - since)}"


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
