"""What callers write becomes a checked `MachineSpec`: sizes with units, names, bounds.

Pure but for one question: how much memory the host has.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from propolis.errors import InvalidArgument
from propolis.host import system
from propolis.image.platforms import parse_platform
from propolis.machine import confinement
from propolis.machine.mounts import volumes
from propolis.machine.sizes import parse_size
from propolis.spec import Confinement, MachineSpec, Mount, PullPolicy

LEAST_MEMORY = 128 << 20
"""A distribution kernel with its initramfs does not come up in less."""
MOST_CPUS = 64
DEFAULT_MEMORY = "512MiB"
DEFAULT_BOOT_TIMEOUT = 120.0
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
_HOSTNAME = re.compile(r"(?!-)[a-zA-Z0-9.-]{1,64}(?<!-)")


class MachineOptions(TypedDict, total=False):
    """What a machine can be given besides its image and command."""

    entrypoint: str | Sequence[str] | None
    """Replaces the image's entrypoint and command both; an empty one removes them."""
    env: Mapping[str, str] | None
    """Added to the image's variables, by name."""
    working_dir: str | None
    user: str | None
    """`name|uid[:group|gid]`, looked up in the image."""
    hostname: str | None
    name: str | None
    """Unique among living machines; made up when not given."""
    tty: bool
    cpus: float
    """Whole processors; 1 by default."""
    memory: str | int
    """Bytes, or a size with a unit; 512MiB by default."""
    kernel: str | Path | None
    initrd: str | Path | None
    """A cpio archive that is unpacked before propolis' own."""
    backend: str | None
    boot_timeout: float
    """Seconds until a guest that has not answered is given up; 120 by default."""
    volumes: Mapping[str | Path, str] | Sequence[Mount | str]
    """Directories and files of this host: `{source: target}`, or a sequence of `SOURCE:TARGET[:ro]` and `Mount`."""
    privileged: bool
    """All capabilities, and all of /proc and /sys."""
    cap_add: Sequence[str]
    cap_drop: Sequence[str]
    no_new_privs: bool
    """Nothing that is executed raises rights (set-id programs, file capabilities)."""
    seccomp: bool
    """Refuse system calls as docker's default profile does."""
    read_only: bool
    """The root file system is."""
    sysctls: Mapping[str, str | int]
    ulimits: Mapping[str, int | str | tuple[int, int]]
    """By name as in `ulimit`: `{"nofile": 4096}`, or soft and hard limit as a tuple or `SOFT:HARD`."""
    pids_limit: int | None
    """Processes and threads of the workload."""
    groups: Sequence[str]
    """Supplementary groups of the workload, by name or number."""
    private_pids: bool
    """Give the workload a process namespace of its own: it does not see the agent."""
    dns: Sequence[str]
    """Addresses for /etc/resolv.conf, if the image has none."""
    pull: PullPolicy | str
    """When a registry is asked for the image: always, missing (by default) or never."""
    signature_policy: str | Path | None
    """A file that says which images may run, in place of this host's own (`docs/images.md`)."""
    platform: str | None
    """`linux/ARCHITECTURE[/VARIANT]`; by default what this host runs, in the variant that demands least."""
    rootfs: str | Path | None
    """Instead of an image: a directory or a tar (plain, gzip, zstd) with a root file system. Neither is changed."""


class ExecOptions(TypedDict, total=False):
    """What one more process in a machine can be given besides its arguments. What is not given is as the workload's."""

    env: Mapping[str, str] | None
    """Added to the workload's variables, by name."""
    working_dir: str | None
    user: str | None
    """`name|uid[:group|gid]`, looked up in the image."""
    groups: Sequence[str]
    """Supplementary groups, by name or number."""
    umask: int
    """022 by default."""
    ulimits: Mapping[str, int | str | tuple[int, int]]
    tty: bool
    rows: int
    columns: int
    privileged: bool
    """All capabilities."""


def check_names(options: Iterable[str], known: Iterable[str]) -> None:
    """Refuse options that are none: the interpreter does not, where they are collected by `**`.

    Raises:
        InvalidArgument: one is not `known`.
    """
    for name in sorted({*options} - {*known}):
        raise InvalidArgument(f"there is no option {name!r}", hint=f"there are {', '.join(sorted(known))}")


def machine_spec(
    image: str | None, command: Sequence[str] | None = None, **options: Unpack[MachineOptions]
) -> MachineSpec:
    """Check what a caller wants of a machine; `command` replaces the image's. `image` is None where `rootfs` is given.

    Raises:
        InvalidArgument: an argument is out of bounds or malformed; the message names it.
    """
    check_names(options, MachineOptions.__annotations__)
    if isinstance(command, str):
        raise InvalidArgument("the command is one string", hint=f"give a list of arguments, like {command.split()}")
    entrypoint = options.get("entrypoint")
    if isinstance(entrypoint, str):
        entrypoint = [entrypoint] if entrypoint else []
    kernel, initrd = options.get("kernel"), options.get("initrd")
    policy = options.get("signature_policy")
    if initrd is not None and kernel is None:
        raise InvalidArgument("an initrd needs the kernel it belongs to", hint="give --kernel too")
    rootfs, platform = options.get("rootfs"), options.get("platform")
    if (image is None) == (rootfs is None):
        raise InvalidArgument("a machine runs either an image or a rootfs", hint="give one of the two")
    if platform is not None:
        parse_platform(platform)
    return MachineSpec(
        image=image if image is not None else str(rootfs),
        rootfs=rootfs is not None,
        command=tuple(_argument(part) for part in command) if command else None,
        entrypoint=None if entrypoint is None else tuple(_argument(part) for part in entrypoint),
        env=_environment(options.get("env") or {}),
        working_dir=_working_dir(options.get("working_dir")),
        user=options.get("user"),
        hostname=_matching(_HOSTNAME, "hostname", options.get("hostname")),
        name=_matching(_NAME, "name", options.get("name")),
        tty=options.get("tty", False),
        cpus=_cpus(options.get("cpus", 1)),
        memory=_memory(options.get("memory", DEFAULT_MEMORY)),
        kernel=None if kernel is None else Path(kernel),
        initrd=None if initrd is None else Path(initrd),
        backend=options.get("backend"),
        boot_timeout=_boot_timeout(options.get("boot_timeout", DEFAULT_BOOT_TIMEOUT)),
        mounts=volumes(options.get("volumes", ())),
        confinement=_confinement(options),
        groups=tuple(_argument(group) for group in options.get("groups", ())),
        dns=_addresses(options.get("dns", ())),
        pull=pull_policy(options.get("pull", PullPolicy.MISSING)),
        signature_policy=None if policy is None else Path(policy),
        platform=platform,
    )


def pull_policy(given: PullPolicy | str) -> PullPolicy:
    """Check when a registry is to be asked.

    Raises:
        InvalidArgument: it is none of the policies.
    """
    if given not in list(PullPolicy):
        raise InvalidArgument(f"{given[:40]!r} is no pull policy", hint=f"choose {', '.join(PullPolicy)}")
    return PullPolicy(given)


def _confinement(options: MachineOptions) -> Confinement:
    privileged = options.get("privileged", False)
    most_tasks = options.get("pids_limit") or 0
    if most_tasks < -1:
        raise InvalidArgument(f"{most_tasks} is no number of processes", hint="-1 and 0 are as many as there can be")
    return Confinement(
        capabilities=confinement.capability_mask(
            privileged=privileged, add=options.get("cap_add", ()), drop=options.get("cap_drop", ())
        ),
        unmasked=privileged,
        no_new_privs=options.get("no_new_privs", False),
        seccomp=options.get("seccomp", False),
        read_only=options.get("read_only", False),
        sysctls=confinement.sysctls(options.get("sysctls", {})),
        rlimits=confinement.rlimits(options.get("ulimits", {})),
        most_tasks=max(most_tasks, 0),
        private_pids=options.get("private_pids", False),
    )


def _addresses(given: Sequence[str]) -> tuple[str, ...]:
    for address in given:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise InvalidArgument(f"{address[:60]!r} is no address of a name server") from None
    return tuple(given)


def _argument(part: str) -> str:
    if "\0" in part:
        raise InvalidArgument("an argument of the command contains a NUL character")
    return part


def _environment(env: Mapping[str, str]) -> Mapping[str, str]:
    for variable, value in env.items():
        if not variable or "=" in variable or "\0" in variable + value:
            raise InvalidArgument(f"{variable!r} cannot be the name of an environment variable, or its value has a NUL")
    return dict(env)


def _working_dir(path: str | None) -> str | None:
    if path is not None and (not path.startswith("/") or "\0" in path):
        raise InvalidArgument(f"the working directory {path!r} is not an absolute path")
    return path


def _matching(pattern: re.Pattern[str], what: str, value: str | None) -> str | None:
    if value is not None and not pattern.fullmatch(value):
        raise InvalidArgument(f"{value!r} cannot be a {what}", hint="letters, digits, dots and dashes, at most 63")
    return value


def _boot_timeout(seconds: float) -> float:
    if not seconds > 0:
        raise InvalidArgument(f"a boot time-out of {seconds} s leaves no time to boot")
    return seconds


def _cpus(cpus: float) -> int:
    if not 1 <= cpus <= MOST_CPUS or cpus != int(cpus):
        raise InvalidArgument(f"a machine cannot have {cpus:g} CPUs", hint=f"a whole number from 1 to {MOST_CPUS}")
    return int(cpus)


def _memory(memory: str | int) -> int:
    size = parse_size(memory)
    if size < LEAST_MEMORY:
        raise InvalidArgument(
            f"{memory} is too little memory for a machine",
            hint=f"at least {LEAST_MEMORY >> 20}MiB; a plain number is bytes, write 512MiB or 2g",
        )
    if size > system.memory_bytes():
        raise InvalidArgument(f"{memory} is more memory than this host has ({system.memory_bytes() >> 20} MiB)")
    return size
