"""`propolis run`: an image becomes a machine, its workload gets this terminal, its exit code becomes ours.

Options are docker's. Signals that arrive before the workload runs end the launch; later they are the workload's, but
for the third Ctrl-C or termination in a row, which ends the machine.
"""

import math
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click
from anyio.abc import TaskStatus

from propolis.cli import streams, terminal
from propolis.cli.render import Progress
from propolis.errors import DeadlineExceeded, InvalidArgument
from propolis.machine.grouping import ungrouped
from propolis.machine.launch import launch
from propolis.machine.mounts import parse_bind, parse_mount, parse_tmpfs
from propolis.machine.options import DEFAULT_BOOT_TIMEOUT, DEFAULT_MEMORY, machine_spec
from propolis.spec import MachineSpec, Mount

if TYPE_CHECKING:
    from propolis.agent.process import GuestProcess

_PATIENCE = 3
"""How many interrupts or terminations the workload may ignore."""
_REFRESH = 0.1
"""Seconds between two looks at how long the launch takes."""


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input on to the workload.")
@click.option("-t", "--tty", is_flag=True, help="Give the workload a terminal.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable; without value: take ours.")
@click.option("-w", "--workdir", metavar="DIR", help="Working directory in the machine.")
@click.option("-u", "--user", metavar="USER[:GROUP]", help="User (and group), by name or number.")
@click.option("-v", "--volume", multiple=True, metavar="HOST_PATH:PATH[:ro]", help="Show a directory or file of ours.")
@click.option(
    "--mount", multiple=True, metavar="type=bind,source=..,target=..[,readonly]", help="The same, or type=tmpfs."
)
@click.option("--tmpfs", multiple=True, metavar="PATH[:size=64m,mode=1777]", help="Memory as a directory.")
@click.option("--read-only", is_flag=True, help="Make the root file system read-only.")
@click.option("--cap-add", multiple=True, metavar="CAPABILITY", help="Leave the workload this, too (ALL: everything).")
@click.option("--cap-drop", multiple=True, metavar="CAPABILITY", help="Take this from the workload.")
@click.option("--privileged", is_flag=True, help="All capabilities, and all of /proc and /sys.")
@click.option(
    "--security-opt", multiple=True, metavar="OPTION", help="no-new-privileges, seccomp=default, seccomp=unconfined."
)
@click.option("--sysctl", multiple=True, metavar="NAME=VALUE", help="Set a kernel parameter.")
@click.option("--ulimit", multiple=True, metavar="NAME=SOFT[:HARD]", help="Set a limit, as nofile=4096.")
@click.option("--pids-limit", type=int, metavar="N", help="Most processes and threads of the workload.")
@click.option("--pid", metavar="host|private", help="private: the workload does not see the agent. [default: host]")
@click.option("--group-add", multiple=True, metavar="GROUP", help="Add a group to the workload's user.")
@click.option("--dns", multiple=True, metavar="ADDRESS", help="Name a server in /etc/resolv.conf.")
@click.option("--entrypoint", metavar="PROGRAM", help="Replace the image's entrypoint and command.")
@click.option("--hostname", metavar="NAME", help="The machine's host name.")
@click.option("--name", metavar="NAME", help="The machine's name, unique among living ones.")
@click.option("--cpus", type=float, default=1, show_default=True, help="Processors.")
@click.option("-m", "--memory", default=DEFAULT_MEMORY, show_default=True, metavar="SIZE", help="Memory.")
@click.option("--timeout", type=float, metavar="SECONDS", help="End the machine and exit with 124 after this long.")
@click.option("--boot-timeout", type=float, default=DEFAULT_BOOT_TIMEOUT, show_default=True, metavar="SECONDS")
@click.option("--kernel", metavar="FILE", help="Boot this kernel.")
@click.option("--initrd", metavar="FILE", help="Unpack this cpio archive before ours (with --kernel).")
@click.option("--backend", metavar="NAME", help="Run with this hypervisor backend.")
@click.option("--rm", is_flag=True, help="Accepted for docker's sake: machines are always removed when they end.")
@click.option("--timing", is_flag=True, help="Tell at the end how long each step took.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no notices.")
def command(image: str, command: tuple[str, ...], **given: Any) -> int:
    """Run IMAGE as a microVM, with COMMAND in place of the image's own.

    IMAGE is oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME:TAG], or just the path; a digest
    (@sha256:...) may stand for the tag.
    """
    if given["interactive"] and given["tty"] and not sys.stdin.isatty():
        raise InvalidArgument("standard input is not a terminal", hint="leave out -t, or -i")
    spec = machine_spec(
        image,
        command,
        env=_environment(given["env"]),
        working_dir=given["workdir"],
        user=given["user"],
        entrypoint=given["entrypoint"],
        hostname=given["hostname"],
        name=given["name"],
        tty=given["tty"],
        cpus=given["cpus"],
        memory=given["memory"],
        kernel=_path(given["kernel"]),
        initrd=_path(given["initrd"]),
        backend=given["backend"],
        boot_timeout=given["boot_timeout"],
        **_confinement(given),
        volumes=_mounts(given),
        groups=given["group_add"],
        dns=given["dns"],
    )
    rows, columns = _terminal_size()
    spec = replace(spec, rows=rows, columns=columns)
    timeout = _timeout(given["timeout"])
    progress = Progress(quiet=given["quiet"])
    session = _Session(spec, progress, given["interactive"])
    try:
        with ungrouped():
            return anyio.run(_within, timeout, session)
    finally:
        progress.wipe()
        if given["timing"]:
            progress.show_timings()
            progress.show_boot(session.stamps)


def _mounts(given: dict[str, Any]) -> list[Mount]:
    binds = [parse_bind(text) for text in given["volume"]]
    return binds + [parse_mount(text) for text in given["mount"]] + [parse_tmpfs(text) for text in given["tmpfs"]]


def _confinement(given: dict[str, Any]) -> dict[str, Any]:
    if given["pid"] not in (None, "host", "private"):
        raise InvalidArgument(f"--pid {given['pid']} is neither host nor private")
    chosen: dict[str, Any] = {name: given[name] for name in ("read_only", "cap_add", "cap_drop", "privileged")}
    for option in given["security_opt"]:
        name, _, value = option.replace(":", "=", 1).partition("=")
        if name == "no-new-privileges" and value in ("", "true", "false"):
            chosen["no_new_privs"] = value != "false"
        elif name == "seccomp" and value in ("default", "unconfined"):
            chosen["seccomp"] = value == "default"
        else:
            raise InvalidArgument(
                f"--security-opt {option[:60]} is not known",
                hint="no-new-privileges, seccomp=default and seccomp=unconfined are",
            )
    return chosen | {
        "sysctls": _assignments("--sysctl", given["sysctl"]),
        "ulimits": _assignments("--ulimit", given["ulimit"]),
        "pids_limit": given["pids_limit"],
        "private_pids": given["pid"] == "private",
    }


def _assignments(option: str, given: Iterable[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for name, equals, _ in pairs:
        if not equals:
            raise InvalidArgument(f"{option} {name[:60]} has no value", hint=f"write {option} {name[:60]}=VALUE")
    return {name: value for name, _, value in pairs}


def _environment(given: Iterable[str]) -> dict[str, str]:
    """Variables by name; one without value is ours, or left out if we have none."""
    chosen = {}
    for text in given:
        name, equals, value = text.partition("=")
        if equals or name in os.environ:
            chosen[name] = value if equals else os.environ[name]
    return chosen


def _timeout(seconds: float | None) -> float | None:
    if seconds is not None and not 0 < seconds < math.inf:
        raise InvalidArgument(f"--timeout {seconds:g} is not a time to wait", hint="give a number of seconds above 0")
    return seconds


def _terminal_size() -> tuple[int, int]:
    rows, columns = terminal.size(streams.STDOUT)
    return (rows, columns) if rows else terminal.size(streams.STDIN)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


async def _within(seconds: float | None, session: "_Session") -> int:
    try:
        with anyio.fail_after(seconds):
            return await session.run()
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"the machine was ended after {seconds:g} s, as --timeout asked", hint="give it more, or none"
        ) from error


class _Session:
    """One run: a machine, its workload, this process' streams and signals."""

    def __init__(self, spec: MachineSpec, progress: Progress, interactive: bool) -> None:
        self._spec = spec
        self._progress = progress
        self._interactive = interactive
        self._launched = False
        self.stamps: Mapping[str, int] = {}
        """When the guest came to where, in ms of its own clock; empty until it answered."""
        self._process: GuestProcess | None = None
        self._ended_by: int | None = None

    async def run(self) -> int:
        """Run it; the exit code."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._take_signals, tasks.cancel_scope)
            tasks.start_soon(self._show_progress)
            status = await self._launch_and_attach()
            tasks.cancel_scope.cancel()
            return status
        return 128 + (self._ended_by or 0)

    async def _launch_and_attach(self) -> int:
        async with launch(self._spec, self._progress) as launched:
            self._launched = True
            self.stamps = launched.hello.stamps
            self._progress.begin("first output")
            self._process = await launched.agent.start()
            with ExitStack() as modes:
                if self._spec.tty and self._interactive:
                    modes.enter_context(terminal.raw_mode(streams.STDIN))
                await self._resize()
                stdin = streams.read_stdin if self._interactive else None
                stdout, stderr = (self._timed(streams.writer(number)) for number in (streams.STDOUT, streams.STDERR))
                from propolis.machine.attach import attach

                status = await attach(self._process, stdin, stdout, stderr)
        return status.shell_code

    def _timed(self, write: Callable[[bytes], Awaitable[None]]) -> Callable[[bytes], Awaitable[None]]:
        async def timed(data: bytes) -> None:
            self._progress.end("first output")
            await write(data)

        return timed

    async def _show_progress(self) -> None:
        while not self._launched:  # afterwards the terminal is the workload's
            self._progress.refresh()
            await anyio.sleep(_REFRESH)

    async def _resize(self) -> None:
        rows, columns = _terminal_size()
        if self._process is not None and self._spec.tty and rows:
            await self._process.resize(rows, columns)

    async def _take_signals(
        self, scope: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        watched = [number for number in (*terminal.FORWARDED, terminal.RESIZED) if number is not None]
        # what we were started to ignore (nohup, a job in a script's background) is ignored on
        watched = [number for number in watched if signal.getsignal(number) is not signal.SIG_IGN]
        ignored = 0
        with anyio.open_signal_receiver(*watched) as received:
            task_status.started()
            async for number in received:
                if number == terminal.RESIZED:
                    await self._resize()
                    continue
                ignored += number in (signal.SIGINT, signal.SIGTERM)
                if self._process is None or ignored >= _PATIENCE:
                    self._ended_by = number
                    scope.cancel()
                else:
                    await self._process.signal(number)
