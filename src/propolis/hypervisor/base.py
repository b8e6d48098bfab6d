"""The contract between propolis and a hypervisor: what third parties implement and `propolis.testing` checks.

Free of the rest of the package but for the vocabulary. A backend is registered under the entry point group
`propolis.backends` as a callable without arguments that returns a `Backend`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from propolis.channel import ByteChannel
from propolis.errors import Unsupported
from propolis.spec import Architecture, DiskFormat, InitConfig, NetEndpointKind, Share, VMConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Whether a backend can run a guest on this host, why (not), and what to do about it."""

    usable: bool
    reason: str
    remedy: str = ""
    accelerated: bool = False
    """Guest code runs on the processor itself, not in software emulation."""

    @classmethod
    def unusable(cls, reason: str, remedy: str = "") -> "Availability":
        """It cannot, and why."""
        return cls(usable=False, reason=reason, remedy=remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do, as data. What is not named here raises `Unsupported`."""

    disk_formats: tuple[DiskFormat, ...]
    """In order of preference."""
    max_disks: int
    max_cpus: int
    architectures: tuple[Architecture, ...]
    net: tuple[NetEndpointKind, ...] = (NetEndpointKind.NONE,)
    max_shares: int = 0
    """Directories of the host that a machine can see."""
    vmbus: bool = False
    """Guests find their devices on Hyper-V's bus, for which not every kernel has drivers."""
    snapshot: bool = False
    pause: bool = False
    hot_plug: bool = False

    def require(self, config: VMConfig, backend: str) -> None:
        """Refuse, on behalf of the backend of that name, a machine that needs more than this.

        Raises:
            Unsupported: it does; the message says what, and the hint what to ask for instead.
        """
        who = f"the {backend} backend"
        if config.boot.architecture not in self.architectures:
            raise Unsupported(f"{who} does not run {config.boot.architecture} guests on this host")
        if config.net.kind not in self.net:
            raise Unsupported(f"{who} has no network of kind {config.net.kind} yet")
        if config.cpus > self.max_cpus:
            raise Unsupported(
                f"{who} gives a machine at most {self.max_cpus} CPUs, not {config.cpus}",
                hint="ask for fewer with --cpus",
            )
        if len(config.disks) > self.max_disks:
            raise Unsupported(
                f"{who} attaches at most {self.max_disks} disks, not {len(config.disks)}",
                hint="use an image with fewer layers",
            )
        if len(config.shares) > self.max_shares:
            raise Unsupported(
                f"{who} shares at most {self.max_shares} directories, not {len(config.shares)}",
                hint="mount a directory above them",
            )
        for disk in config.disks:
            if disk.format not in self.disk_formats:
                raise Unsupported(f"{who} does not attach {disk.format} disks ({disk.path})")


class VMHandle(Protocol):
    """One running machine. Usable from the event loop that started it."""

    @property
    def id(self) -> str:
        """The id given in `VMConfig`; never changes."""

    @property
    def is_alive(self) -> bool:
        """Whether the machine still runs, as far as is known now."""

    @property
    def processes(self) -> tuple[int, ...]:
        """Pids on the host that are this machine; empty where the hypervisor is not a process."""

    def console(self) -> str:
        """The end of what the guest printed to its console, at most 64 KiB; also after its death."""

    async def agent(self) -> ByteChannel:
        """The byte stream to the guest's agent, the same at every call; quiet until the guest has opened it."""

    async def wait(self) -> None:
        """Return when the machine is gone, for whatever reason. Any number of tasks may wait."""

    async def stop(self, timeout: float = 0.0) -> None:
        """End the machine: wait up to `timeout` seconds for the guest to power off, then force it.

        Idempotent. Nothing of the machine is left on the host when it returns, but for the files in its directory.
        """


class Snapshotting(VMHandle, Protocol):
    """What a handle offers besides where `Capabilities.pause` and `snapshot` say so."""

    async def pause(self) -> None:
        """Stop the guest's processors."""

    async def resume(self) -> None:
        """Let them run again."""

    async def save(self, path: Path) -> None:
        """Write the paused machine's state to a file."""


class HotPlugging(VMHandle, Protocol):
    """What a handle offers besides where `Capabilities.hot_plug` says so. The guest mounts and unmounts by itself."""

    async def add_share(self, share: Share) -> None:
        """Show the running machine one more directory."""

    async def remove_share(self, tag: str) -> None:
        """Take a directory away, which the guest has unmounted."""


class Backend(Protocol):
    """A hypervisor. Creating one is cheap and asks the host nothing."""

    @property
    def name(self) -> str:
        """What `--backend` calls it."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    def availability(self) -> Availability:
        """Probe this host, in at most a few hundred milliseconds; never raises for what it finds.

        Probed, not guessed: a device that opens can still be unable to run a guest.
        """

    def prepare_rootfs(self, rootfs: Path, init: InitConfig) -> Path:
        """Make the machine's writable disk attachable and return the path to attach.

        `rootfs` is a disk in one of `capabilities.disk_formats` that already holds `init` as `/.propolis_init.json`.
        What is left is the hypervisor's own: access rights, attributes it refuses.

        Raises:
            BackendError: this hypervisor cannot attach the file; the message says why.
        """

    async def start(self, config: VMConfig) -> VMHandle:
        """Start a machine; returns as soon as it runs, long before the guest is up.

        A start that fails or is cancelled leaves nothing behind.

        Raises:
            Unsupported: the configuration asks for what `capabilities` does not offer.
            BackendError: the hypervisor refused; the message has its words.
        """


@runtime_checkable
class Sweeping(Protocol):
    """What a backend offers besides if machines of dead processes can leave something with the host."""

    def sweep(self) -> tuple[str, ...]:
        """Remove it; says what was done, a line for each machine.

        Raises:
            BackendError: the hypervisor cannot be asked.
        """

    def holds(self, machine_id: str) -> bool:
        """Whether that machine of a dead process could not be ended, and may still use its files."""
