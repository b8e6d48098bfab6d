"""`propolis run`: an image becomes a machine, its workload gets this terminal, its exit code becomes ours.

Options are docker's. Pipes are served by one process; a run that may be left alone (-it, -d) has two (`cli.owned`).
"""

import math
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import click

from propolis.cli import detach_keys, streams, terminal
from propolis.cli.foreground import Foreground, Opened
from propolis.cli.image_options import image_options
from propolis.cli.progress import Progress, progress_options
from propolis.errors import DeadlineExceeded, InvalidArgument, Unsupported
from propolis.image.reference import reads_standard_input
from propolis.machine.grouping import ungrouped
from propolis.machine.launch import launch
from propolis.machine.mounts import parse_bind, parse_mount, parse_tmpfs
from propolis.machine.options import DEFAULT_BOOT_TIMEOUT, DEFAULT_MEMORY, machine_spec
from propolis.spec import MachineSpec, Mount

_MOST_VARIABLES = 1 << 20
"""Bytes of a file of variables."""


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input on to the workload.")
@click.option("-t", "--tty", is_flag=True, help="Give the workload a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Leave it running in the background; print its id.")
@click.option(
    "--detach-keys",
    default=detach_keys.DEFAULT,
    show_default=True,
    metavar="KEYS",
    help="What to type to leave it running, with -it; empty: nothing.",
)
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable; without value: take ours.")
@click.option("--env-file", multiple=True, metavar="FILE", help="The same, a line each; # begins a comment.")
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
@click.option("--network", "--net", metavar="none", help="none: only loopback. There is no other yet.")
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
@click.option(
    "--pull", metavar="always|missing|never", default="missing", help="When to ask a registry. [default: missing]"
)
@image_options()
@click.option("--rootfs", is_flag=True, help="IMAGE is a directory or a tar with a root file system, and no image.")
@click.option("--rm", is_flag=True, help="Accepted for docker's sake: machines are always removed when they end.")
@click.option("--init", is_flag=True, help="Accepted for docker's sake: the agent reaps what the workload leaves.")
@click.option("--timing", is_flag=True, help="Tell at the end how long each step took.")
@progress_options
def command(image: str, command: tuple[str, ...], **given: Any) -> int:
    """Run IMAGE as a microVM, with COMMAND in place of the image's own.

    IMAGE is a name in a registry ([HOST/]NAME[:TAG]), docker-daemon:NAME[:TAG], oci:DIR[:TAG], dir:DIR,
    oci-archive:FILE[:TAG], docker-archive:FILE[:NAME:TAG], or just the path; a digest (@sha256:...) may
    stand for the tag, and - for a FILE that comes through standard input.
    """
    _check_input(image, given)
    if given["network"] not in (None, "none"):
        raise Unsupported(
            f"there is no network {given['network'][:60]!r}: a machine has only its loopback interface",
            hint="leave out --network",
        )
    if given["interactive"] and given["tty"] and not given["detach"] and not terminal.is_terminal(streams.STDIN):
        raise InvalidArgument("standard input is not a terminal", hint="leave out -t, or -i")
    spec = machine_spec(
        None if given["rootfs"] else image,
        command,
        rootfs=image if given["rootfs"] else None,
        platform=given["platform"],
        env=(terminal.environment() if given["tty"] else {}) | environment(given["env"], given["env_file"]),
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
        pull=given["pull"],
        signature_policy=given["signature_policy"],
    )
    rows, columns = terminal.ours()
    spec = replace(spec, rows=rows, columns=columns)
    timeout = _timeout(given["timeout"])
    keys = detach_keys.parse(given["detach_keys"])
    if given["detach"] or (given["tty"] and given["interactive"]):
        from propolis.cli.owned import run_owned
        from propolis.cli.owning import Wanted

        return run_owned(
            Wanted(
                spec=spec,
                interactive=given["interactive"],
                detach=given["detach"],
                detach_keys=keys,
                timeout=timeout,
                progress=given["progress"],
                timing=given["timing"],
            )
        )
    progress = Progress(given["progress"])
    machine = _Machine(spec, progress, interactive=given["interactive"])
    foreground = Foreground(progress, tty=given["tty"], interactive=given["interactive"])
    try:
        with ungrouped():
            return anyio.run(_within, timeout, foreground, machine)
    finally:
        progress.close()
        if given["timing"]:
            progress.show_timings()
            progress.show_boot(machine.stamps)


def _check_input(image: str, given: dict[str, Any]) -> None:
    if (given["interactive"] or given["tty"]) and (image == "-" if given["rootfs"] else reads_standard_input(image)):
        raise InvalidArgument(
            "standard input cannot be both the image's and the workload's", hint="leave out -i and -t, or name a file"
        )


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


def environment(given: Iterable[str], files: Iterable[str] = ()) -> dict[str, str]:
    """Variables by name, those of `files` before those that are `given`; one without value is ours, or left out.

    Raises:
        InvalidArgument: a file cannot be read, or a line of it is no variable.
    """
    chosen = {}
    for text in (*(line for file in files for line in _lines(file)), *given):
        name, equals, value = text.partition("=")
        if equals or name in os.environ:
            chosen[name] = value if equals else os.environ[name]
    return chosen


def _lines(file: str) -> Iterator[str]:
    """The variables in a file as docker takes it: `NAME=VALUE` or `NAME`, nothing quoted or replaced."""
    try:
        with Path(file).open("rb") as opened:
            data = opened.read(_MOST_VARIABLES + 1)
        if len(data) > _MOST_VARIABLES:
            raise InvalidArgument(f"{file[:200]} is too large for a file of variables")
        lines = [line.removesuffix("\r") for line in data.decode("utf-8-sig").split("\n")]
    except OSError as error:
        raise InvalidArgument(f"cannot read {file[:200]}: {error.strerror}", hint="check the path") from error
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{file[:200]} is not text in UTF-8") from error
    for number, line in enumerate(map(str.lstrip, lines), 1):
        name = line.partition("=")[0]
        if line and not line.startswith("#"):
            if not name or any(map(str.isspace, name)):
                raise InvalidArgument(f"{file[:200]}, line {number}: {name[:60]!r} is no name of a variable")
            yield line


def _timeout(seconds: float | None) -> float | None:
    if seconds is not None and not 0 < seconds < math.inf:
        raise InvalidArgument(f"--timeout {seconds:g} is not a time to wait", hint="give a number of seconds above 0")
    return seconds


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


async def _within(seconds: float | None, foreground: Foreground, machine: "_Machine") -> int:
    try:
        with anyio.fail_after(seconds):
            return await foreground.run(machine.started)
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"the machine was ended after {seconds:g} s, as --timeout asked", hint="give it more, or none"
        ) from error


class _Machine:
    """A machine in this process."""

    def __init__(self, spec: MachineSpec, progress: Progress, *, interactive: bool) -> None:
        self._spec, self._progress, self._interactive = spec, progress, interactive
        self.stamps: Mapping[str, int] = {}
        """When the guest came to where, in ms of its own clock; empty until it answered."""

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Opened]:
        """The machine's workload; at the end the machine is gone."""
        async with launch(self._spec, self._progress) as launched:
            self.stamps = launched.hello.stamps
            yield Opened(await launched.agent.start(input=self._interactive))
