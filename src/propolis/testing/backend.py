"""A backend without a hypervisor: machines in memory, for tests of what is built on `hypervisor.base`.

Its guest is whoever holds `MemoryHandle.guest`, the far side of the agent's channel. It keeps the whole contract
(`propolis.testing.contract`), so what works against it works against a real backend.
"""

from pathlib import Path

import anyio

from propolis.channel import ByteChannel
from propolis.errors import BackendError
from propolis.hypervisor.base import Availability, Capabilities
from propolis.spec import Architecture, DiskFormat, InitConfig, Share, VMConfig
from propolis.testing.channels import memory_channel_pair

KEPT_CONSOLE = 64 << 10


class MemoryBackend:
    """See `hypervisor.base.Backend`. `machines` holds every machine it has started."""

    name = "memory"
    capabilities = Capabilities(
        disk_formats=(DiskFormat.RAW, DiskFormat.VHD, DiskFormat.VHDX),
        max_disks=64,
        max_cpus=8,
        architectures=(Architecture.X86_64, Architecture.AARCH64),
        max_shares=8,
        hot_plug=True,
    )

    def __init__(self) -> None:
        self.machines: list[MemoryHandle] = []

    def availability(self) -> Availability:
        """See `Backend.availability`."""
        return Availability(usable=True, reason="it needs nothing of the host")

    def prepare_rootfs(self, rootfs: Path, init: InitConfig) -> Path:
        """See `Backend.prepare_rootfs`."""
        if not rootfs.is_file():
            raise BackendError(f"the disk {rootfs} of {init.hostname} cannot be read")
        return rootfs.absolute()

    async def start(self, config: VMConfig) -> "MemoryHandle":
        """See `Backend.start`."""
        self.capabilities.require(config, self.name)
        for path in (config.boot.kernel, config.boot.initramfs, *(disk.path for disk in config.disks)):
            if not path.is_file():
                raise BackendError(f"{path} cannot be read")
        await anyio.lowlevel.checkpoint()
        self.machines.append(MemoryHandle(config))
        return self.machines[-1]


class MemoryHandle:
    """See `hypervisor.base.HotPlugging`; `guest` is the guest's side of the agent's channel, `shares` what it sees."""

    def __init__(self, config: VMConfig) -> None:
        self.config = config
        self.shares = {share.tag: share for share in config.shares}
        self._host: ByteChannel
        self._host, self.guest = memory_channel_pair()
        self._ended = anyio.Event()
        self._console = ""

    @property
    def id(self) -> str:
        """See `VMHandle.id`."""
        return self.config.id

    @property
    def is_alive(self) -> bool:
        """See `VMHandle.is_alive`."""
        return not self._ended.is_set()

    @property
    def processes(self) -> tuple[int, ...]:
        """See `VMHandle.processes`; there are none."""
        return ()

    def console(self) -> str:
        """See `VMHandle.console`."""
        return self._console

    async def add_share(self, share: Share) -> None:
        """See `HotPlugging.add_share`."""
        if self._ended.is_set() or share.tag in self.shares or not share.path.is_dir():
            raise BackendError(f"the directory {share.path} cannot be shared")
        self.shares[share.tag] = share

    async def remove_share(self, tag: str) -> None:
        """See `HotPlugging.remove_share`."""
        if self.shares.pop(tag, None) is None:
            raise BackendError(f"there is no share {tag}")

    def print_to_console(self, text: str) -> None:
        """Act as the guest's kernel."""
        self._console = (self._console + text)[-KEPT_CONSOLE:]

    async def power_off(self) -> None:
        """Act as a guest that ends by itself."""
        self._ended.set()
        await self.guest.aclose()

    async def agent(self) -> ByteChannel:
        """See `VMHandle.agent`."""
        return self._host

    async def wait(self) -> None:
        """See `VMHandle.wait`."""
        await self._ended.wait()

    async def stop(self, timeout: float = 0.0) -> None:
        """See `VMHandle.stop`."""
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(timeout):
                await self._ended.wait()
            self._ended.set()
            await self.guest.aclose()
            await self._host.aclose()
