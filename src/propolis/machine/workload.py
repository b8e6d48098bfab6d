"""What runs in the machine: the image's configuration and the caller's overrides become one process.

Pure. The rules are docker's: a command replaces the image's Cmd; an entrypoint replaces Entrypoint and drops Cmd; env
variables are merged by name.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Unpack

from propolis.errors import InvalidArgument
from propolis.image.manifest import Config
from propolis.machine.confinement import rlimits
from propolis.machine.options import ExecOptions, check_names
from propolis.spec import MachineSpec, Process


def main_process(config: Config, spec: MachineSpec) -> Process:
    """The machine's workload.

    Raises:
        InvalidArgument: neither the image nor the caller says what to run.
    """
    if spec.entrypoint is None:
        argv = (*config.entrypoint, *(config.cmd if spec.command is None else spec.command))
    else:
        argv = (*spec.entrypoint, *(spec.command or ()))
    if not argv and spec.rootfs:
        raise InvalidArgument(
            f"the root file system {spec.image} does not say what to run",
            hint=f"say it: propolis run --rootfs {spec.image} COMMAND",
        )
    if not argv:
        raise InvalidArgument(
            f"the image {spec.image} has no entrypoint and no command",
            hint=f"say what to run: propolis run {spec.image} COMMAND",
        )
    return Process(
        argv=argv,
        env=merged_env(config.env, spec.env),
        working_dir=spec.working_dir or config.working_dir or "/",
        user=config.user if spec.user is None else spec.user,
        groups=spec.groups,
        rlimits=spec.confinement.rlimits,
        capabilities=spec.confinement.capabilities,
        no_new_privs=spec.confinement.no_new_privs,
        seccomp=spec.confinement.seccomp,
        tty=spec.tty,
        rows=spec.rows,
        columns=spec.columns,
    )


def exec_process(workload: Process, argv: Sequence[str], **options: Unpack[ExecOptions]) -> Process:
    """One more process beside the workload.

    Raises:
        InvalidArgument: there is no such option, or it is out of bounds.
    """
    check_names(options, ExecOptions.__annotations__)
    if isinstance(argv, str) or not argv:
        raise InvalidArgument("exec takes a list of arguments, the program first")
    umask = options.get("umask")
    if umask is not None and not 0 <= umask <= 0o777:
        raise InvalidArgument(f"{umask:o} is no umask")
    user, working_dir = options.get("user"), options.get("working_dir")
    return Process(
        argv=tuple(argv),
        env=merged_env(workload.env, options.get("env") or {}),
        working_dir=working_dir or workload.working_dir,
        user=workload.user if user is None else user,
        groups=tuple(options.get("groups", workload.groups)),
        umask=umask,
        rlimits=rlimits(options["ulimits"]) if "ulimits" in options else workload.rlimits,
        capabilities=None if options.get("privileged") else workload.capabilities,
        no_new_privs=workload.no_new_privs,
        seccomp=workload.seccomp and not options.get("privileged"),
        tty=options.get("tty", False),
        rows=options.get("rows", 0),
        columns=options.get("columns", 0),
    )


def merged_env(base: Iterable[str], overrides: Mapping[str, str]) -> tuple[str, ...]:
    """`NAME=value` strings of `base`, replaced or extended by `overrides`; the order of first mention is kept."""
    merged = dict(variable.partition("=")[::2] for variable in base)
    merged.update(overrides)
    return tuple(f"{name}={value}" for name, value in merged.items())
