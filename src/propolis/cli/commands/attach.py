"""`propolis attach`: back to a machine that was left running; its workload gets this terminal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import click

from propolis.cli import detach_keys, streams, terminal
from propolis.cli.foreground import Foreground, Opened
from propolis.cli.progress import Progress
from propolis.errors import CommandNotFound, MachineError
from propolis.machine.connecting import Connected, attach_to, connected, leave
from propolis.machine.grouping import ungrouped


@click.command("attach")
@click.argument("machine")
@click.option("--detach-keys", default=detach_keys.DEFAULT, show_default=True, metavar="KEYS", help="Leave it again.")
@click.option("--no-stdin", is_flag=True, help="Only show what it prints.")
@click.option(
    "--sig-proxy",
    type=bool,
    default=True,
    show_default=True,
    metavar="true|false",
    help="false: Ctrl-C and other signals end only this, not the workload.",
)
def command(machine: str, detach_keys: str, no_stdin: bool, sig_proxy: bool) -> int:
    """Attach to the workload of MACHINE: its name, its id, or as much of its id as is unique.

    Output from before is in `propolis logs`. Signals go to the workload. The exit code is the workload's.
    """
    with ungrouped():
        return anyio.run(_attach, machine, detach_keys, not no_stdin, sig_proxy)


async def _attach(name: str, keys: str, interactive: bool, sig_proxy: bool) -> int:
    sequence = detach_keys.parse(keys)
    if not terminal.is_terminal(streams.STDIN):
        sequence = b""  # what comes from elsewhere is data, whatever it is
    async with connected(name) as machine:
        foreground = Foreground(
            Progress(),
            tty=machine.process.tty and terminal.is_terminal(streams.STDIN),
            interactive=interactive,
            detach_keys=sequence,
            redraw=True,
            sig_proxy=sig_proxy,
        )
        status = await foreground.run(partial(_attached, machine))
    if foreground.detached:
        Progress().notice(f"left {machine.record.name} running")
    return status


@asynccontextmanager
async def _attached(machine: Connected) -> AsyncIterator[Opened]:
    try:
        process = await attach_to(machine.agent)
    except CommandNotFound as error:
        raise MachineError(
            f"the machine {machine.record.name} is attached to the command that runs it",
            hint=f"run another process in it: propolis exec -it {machine.record.name} sh",
        ) from error
    yield Opened(process, partial(leave, machine.agent))
