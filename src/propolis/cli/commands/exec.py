"""`propolis exec`: one more process in a machine that runs, whoever owns it. Options are docker's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import click

from propolis.cli import detach_keys, streams, terminal
from propolis.cli.commands.run import environment
from propolis.cli.foreground import Foreground, Opened
from propolis.cli.progress import Progress
from propolis.errors import InvalidArgument
from propolis.machine.connecting import Connected, connected, leave
from propolis.machine.grouping import ungrouped
from propolis.machine.options import ExecOptions
from propolis.machine.workload import exec_process
from propolis.spec import Process


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("machine")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input on to the process.")
@click.option("-t", "--tty", is_flag=True, help="Give the process a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Leave it running; nobody hears its output.")
@click.option("--detach-keys", default=detach_keys.DEFAULT, show_default=True, metavar="KEYS", help="Leave it running.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable; without value: take ours.")
@click.option("--env-file", multiple=True, metavar="FILE", help="The same, a line each; # begins a comment.")
@click.option("-w", "--workdir", metavar="DIR", help="Working directory in the machine.")
@click.option("-u", "--user", metavar="USER[:GROUP]", help="User (and group), by name or number.")
@click.option("--privileged", is_flag=True, help="All capabilities.")
def command(machine: str, command: tuple[str, ...], **given: Any) -> int:
    """Run COMMAND in MACHINE: its name, its id, or as much of its id as is unique.

    Environment, working directory, user and rights are the workload's unless given.
    """
    interactive, tty = given["interactive"] and not given["detach"], given["tty"]
    if interactive and tty and not terminal.is_terminal(streams.STDIN):
        raise InvalidArgument("standard input is not a terminal", hint="leave out -t, or -i")
    options: ExecOptions = {
        "env": (terminal.environment() if tty else {}) | environment(given["env"], given["env_file"]),
        "working_dir": given["workdir"],
        "user": given["user"],
        "privileged": given["privileged"],
        "tty": tty,
    }
    if tty:
        options["rows"], options["columns"] = terminal.ours()
    keys = detach_keys.parse(given["detach_keys"])
    if not terminal.is_terminal(streams.STDIN):
        keys = b""  # what comes from elsewhere is data, whatever it is
    foreground = Foreground(Progress(), tty=tty, interactive=interactive, detach_keys=keys)
    with ungrouped():
        return anyio.run(_run, machine, command, options, None if given["detach"] else foreground)


async def _run(name: str, argv: tuple[str, ...], options: ExecOptions, foreground: Foreground | None) -> int:
    async with connected(name) as machine:
        process = exec_process(machine.process, argv, **options)
        if foreground is not None:
            return await foreground.run(partial(_started, machine, process))
        await (await machine.agent.exec(process)).stdin.aclose()
        await leave(machine.agent)
        return 0


@asynccontextmanager
async def _started(machine: Connected, process: Process) -> AsyncIterator[Opened]:
    yield Opened(await machine.agent.exec(process), partial(leave, machine.agent))
