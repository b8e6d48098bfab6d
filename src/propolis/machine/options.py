"""What callers write becomes a checked `MachineSpec`: sizes with units, names, bounds.

Pure but for one question: how much memory the host has.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from propolis.errors import InvalidArgument
from propolis.host import system
from propolis.spec import MachineSpec

LEAST_MEMORY = 128 << 20
"""A distribution kernel with its initramfs does not come up in less."""
MOST_CPUS = 64
DEFAULT_MEMORY = "512MiB"
DEFAULT_BOOT_TIMEOUT = 120.0
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
_HOSTNAME = re.compile(r"(?!-)[a-zA-Z0-9.-]{1,64}(?<!-)")
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([kmgt]?)(i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(text: str | int) -> int:
    """Bytes from `536870912`, `512m`, `512MiB`, `0.5G`; units are powers of 1024, as docker has them.

    Raises:
        InvalidArgument: it is not a size.
    """
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidArgument(f"{text!r} is not a size", hint="write it like 512MiB or 2g")
    return int(float(match[1]) * _UNITS[match[2].lower()])


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


def machine_spec(image: str, command: Sequence[str] | None = None, **options: Unpack[MachineOptions]) -> MachineSpec:
    """Check what a caller wants of a machine; `command` replaces the image's.

    Raises:
        InvalidArgument: an argument is out of bounds or malformed; the message names it.
    """
    if isinstance(command, str):
        raise InvalidArgument("the command is one string", hint=f"give a list of arguments, like {command.split()}")
    entrypoint = options.get("entrypoint")
    if isinstance(entrypoint, str):
        entrypoint = [entrypoint] if entrypoint else []
    kernel, initrd = options.get("kernel"), options.get("initrd")
    if initrd is not None and kernel is None:
        raise InvalidArgument("an initrd needs the kernel it belongs to", hint="give --kernel too")
    return MachineSpec(
        image=image,
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
    )


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
