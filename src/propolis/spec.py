"""The small frozen values that pass between rooms.

Vocabulary only: no I/O, no defaults that depend on the host. Sizes are bytes, times are seconds unless named otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Architecture(StrEnum):
    """A guest's processor architecture, as the kernel spells it."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"


class DiskFormat(StrEnum):
    """The container around a disk's bytes."""

    RAW = "raw"
    VHD = "vhd"
    VHDX = "vhdx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One disk file as a backend attaches it."""

    path: Path
    format: DiskFormat = DiskFormat.RAW
    read_only: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process to run in the guest.

    Strings may carry bytes that are not UTF-8 as surrogate escapes. `user` is docker's `name|uid[:group|gid]`, resolved
    in the guest against the image's own passwd and group files; empty means root.
    """

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    """`NAME=value`, in order."""
    working_dir: str = "/"
    user: str = ""
    groups: tuple[str, ...] = ()
    """Supplementary groups, names or numbers, beside those that the image's group file gives the user."""
    tty: bool = False
    rows: int = 0
    columns: int = 0

    def to_json(self) -> dict[str, Any]:
        """The wire form, shared by `/.propolis_init.json` and the agent's exec request."""
        document: dict[str, Any] = {
            "cmd": list(self.argv),
            "env": list(self.env),
            "working_dir": self.working_dir,
        }
        if self.user:
            document["user"] = self.user
        if self.groups:
            document["groups"] = list(self.groups)
        if self.tty:
            document |= {"tty": True, "rows": self.rows, "columns": self.columns}
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class InitConfig:
    """What the guest's init reads from `/.propolis_init.json` on the machine's writable disk."""

    process: Process
    hostname: str
    layers: int
    """How many read-only disks come before the writable one."""

    def to_json(self) -> dict[str, Any]:
        """The document: the seed's `cmd`, `env`, `working_dir`, and what else init needs."""
        return self.process.to_json() | {"hostname": self.hostname, "layers": self.layers}


@dataclass(frozen=True, slots=True, kw_only=True)
class BootPlan:
    """What boots: two files and a command line, the same for every backend."""

    kernel: Path
    initramfs: Path
    cmdline: str
    architecture: Architecture = Architecture.X86_64


class NetEndpointKind(StrEnum):
    """How Ethernet frames leave a machine."""

    NONE = "none"
    UNIX = "unix"
    PIPE = "pipe"
    HVSOCKET = "hvsocket"
    FD = "fd"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetEndpoint:
    """Where a machine's network frames go; `path` is the socket, the pipe, the service GUID or the descriptor."""

    kind: NetEndpointKind = NetEndpointKind.NONE
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VMConfig:
    """Everything a backend needs to start one machine.

    `disks` are attached at LUN 0, 1, ... of one controller, in this order. `directory` is private to the machine,
    exists, and is removed by the caller after the machine is gone; the backend may write there.
    """

    id: str
    boot: BootPlan
    disks: tuple[Disk, ...]
    cpus: int
    memory: int
    directory: Path
    net: NetEndpoint = field(default_factory=NetEndpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """What a caller asks for. None means: what the image says, or the default."""

    image: str
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    user: str | None = None
    hostname: str | None = None
    name: str | None = None
    tty: bool = False
    rows: int = 0
    columns: int = 0
    """The terminal's size at the start; zeros where it is not known."""
    cpus: int = 1
    memory: int = 512 << 20
    kernel: Path | None = None
    initrd: Path | None = None
    backend: str | None = None
    boot_timeout: float = 120.0
