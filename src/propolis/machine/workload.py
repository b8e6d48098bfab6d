"""What runs in the machine: the image's configuration and the caller's overrides become one process.

Pure. The rules are docker's: a command replaces the image's Cmd; an entrypoint replaces Entrypoint and drops Cmd; env
variables are merged by name.
"""

from collections.abc import Iterable, Mapping

from propolis.errors import InvalidArgument
from propolis.image.manifest import Config
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
        tty=spec.tty,
        rows=spec.rows,
        columns=spec.columns,
    )


def merged_env(base: Iterable[str], overrides: Mapping[str, str]) -> tuple[str, ...]:
    """`NAME=value` strings of `base`, replaced or extended by `overrides`; the order of first mention is kept."""
    merged = dict(variable.partition("=")[::2] for variable in base)
    merged.update(overrides)
    return tuple(f"{name}={value}" for name, value in merged.items())
