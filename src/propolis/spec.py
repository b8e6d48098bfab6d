"""The small frozen values that pass between rooms.

Vocabulary only: no I/O, no defaults that depend on the host. Sizes are bytes, times are seconds unless named otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal


class Architecture(StrEnum):
    """A guest's processor architecture, as the kernel spells it."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"


class DiskFormat(StrEnum):
    """The container around a disk's bytes."""

    RAW = "raw"
    VHD = "vhd"
    VHDX = "vhdx"


class PullPolicy(StrEnum):
    """When a registry is asked for an image."""

    ALWAYS = "always"
    """Whatever is here already: a tag may name something else by now."""
    MISSING = "missing"
    """What the tag named last time will do, if it is here."""
    NEVER = "never"


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
    umask: int | None = None
    """None: 022."""
    rlimits: tuple[tuple[int, int, int], ...] = ()
    """Linux' number of the resource, soft and hard limit; -1 is none."""
    capabilities: int | None = None
    """The bounding set, as a mask of Linux' numbers; None leaves all."""
    no_new_privs: bool = False
    seccomp: bool = False
    builtin: bool = False
    """A program of the agent itself instead of one of the image."""

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
        if self.umask is not None:
            document["umask"] = self.umask
        if self.rlimits:
            document["rlimits"] = [list(limit) for limit in self.rlimits]
        if self.capabilities is not None:
            document["capabilities"] = self.capabilities
        return document | {name: True for name in ("no_new_privs", "seccomp", "builtin") if getattr(self, name)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Process":
        """The inverse of `to_json`, for documents of our own."""
        given = {field.name: document[field.name] for field in fields(cls) if field.name in document}
        for name in ("env", "groups"):
            given[name] = tuple(given.get(name, ()))
        given["rlimits"] = tuple((kind, soft, hard) for kind, soft, hard in given.get("rlimits", ()))
        return cls(argv=tuple(document["cmd"]), **given)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestMount:
    """What init mounts beside the root."""

    type: str
    """`share`, `file` (a file in a share), or `tmpfs`."""
    target: str
    source: str = ""
    """The share's tag, for a file with its name after a slash."""
    options: str = ""
    read_only: bool = False

    def to_json(self) -> dict[str, Any]:
        """The member of the document's `mounts`."""
        document: dict[str, Any] = {"type": self.type, "target": self.target}
        if self.source:
            document["source"] = self.source
        if self.options:
            document["options"] = self.options
        return document | ({"read_only": True} if self.read_only else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class InitConfig:
    """What the guest's init reads from `/.propolis_init.json` on the machine's writable disk."""

    process: Process
    hostname: str
    layers: int
    """How many read-only disks come before the writable one."""
    mounts: tuple[GuestMount, ...] = ()
    sysctls: tuple[str, ...] = ()
    """`name=value`."""
    seed: str = ""
    """Entropy for the guest's kernel, in hexadecimal."""
    resolver: str = ""
    """What /etc/resolv.conf says if the image has none."""
    most_tasks: int = 0
    """Processes and threads of the workload; 0: as many as leave the agent some."""
    read_only: bool = False
    """Whether the root is."""
    unmasked: bool = False
    """Whether all of /proc and /sys is shown, and writable."""
    own_pids: bool = False
    """Whether the workload has a process namespace of its own."""
    later_shares: bool = False
    """Whether shares may come while it runs, so that their drivers are loaded in any case."""

    def to_json(self) -> dict[str, Any]:
        """The document: the seed's `cmd`, `env`, `working_dir`, and what else init needs."""
        document = self.process.to_json() | {"hostname": self.hostname, "layers": self.layers}
        if self.mounts:
            document["mounts"] = [mount.to_json() for mount in self.mounts]
        names = ("sysctls", "seed", "resolver", "most_tasks", "read_only", "unmasked", "own_pids", "later_shares")
        values = {name: getattr(self, name) for name in names}
        return document | {name: list(value) if name == "sysctls" else value for name, value in values.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class BootPlan:
    """What boots: two files and a command line, the same for every backend."""

    kernel: Path
    initramfs: Path
    cmdline: str
    architecture: Architecture = Architecture.X86_64


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A directory of the host that a machine sees; the guest mounts it by its tag."""

    tag: str
    path: Path
    read_only: bool = False


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
    shares: tuple[Share, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount. `source` is a directory or a file of the host; a tmpfs has none."""

    type: Literal["bind", "tmpfs"] = "bind"
    source: Path | None = None
    target: str
    read_only: bool = False
    size: int | None = None
    """Bytes of a tmpfs; half of the memory by default."""
    mode: int = 0o1777
    """Of a tmpfs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What a workload may do in its machine."""

    capabilities: int | None = None
    """A mask of Linux' numbers; None: all."""
    unmasked: bool = False
    no_new_privs: bool = False
    seccomp: bool = False
    read_only: bool = False
    sysctls: tuple[str, ...] = ()
    rlimits: tuple[tuple[int, int, int], ...] = ()
    most_tasks: int = 0
    private_pids: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """What a caller asks for. None means: what the image says, or the default."""

    image: str
    rootfs: bool = False
    """Whether `image` is the path of a root file system, a directory or a tar, with no image around it."""
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
    mounts: tuple[Mount, ...] = ()
    confinement: Confinement = field(default_factory=Confinement)
    groups: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    pull: PullPolicy = PullPolicy.MISSING
    platform: str | None = None
    """`linux/ARCHITECTURE[/VARIANT]`."""
    signature_policy: Path | None = None
