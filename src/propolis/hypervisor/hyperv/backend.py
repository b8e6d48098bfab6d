"""The Hyper-V backend: the order in which HCS is called, and how all of it is undone.

Every step registers its counterpart before it is taken, so a start that fails or is cancelled anywhere leaves no
machine, pipe, right or file. What is sent stands in `document`, what answers mean in `hresult`.
"""

import contextlib
import os
import platform
import secrets
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio

from propolis.errors import BackendError, BackendUnavailable, PropolisError
from propolis.host import system as host
from propolis.host.directories import data_directory
from propolis.hypervisor.base import Availability, Capabilities
from propolis.hypervisor.console import Tail
from propolis.hypervisor.hyperv import directories, document, hresult, hvsocket, orphans, requests
from propolis.hypervisor.hyperv._ffi import ComputeCore
from propolis.hypervisor.hyperv.access import Access
from propolis.hypervisor.hyperv.base import ConsolePipe, Platform
from propolis.hypervisor.hyperv.channel import AGENT_PORT, GuestChannel
from propolis.hypervisor.hyperv.handle import HypervHandle
from propolis.hypervisor.hyperv.ledger import Ledger
from propolis.hypervisor.hyperv.shared import SharedFiles
from propolis.hypervisor.hyperv.system import ComputeSystem
from propolis.hypervisor.hyperv.threads import in_thread
from propolis.spec import Architecture, BootPlan, DiskFormat, InitConfig, VMConfig

_NEEDED = (
    *("HcsCreateOperation", "HcsCloseOperation", "HcsWaitForOperationResult"),
    *("HcsCreateComputeSystem", "HcsOpenComputeSystem", "HcsCloseComputeSystem", "HcsSetComputeSystemCallback"),
    *("HcsStartComputeSystem", "HcsTerminateComputeSystem", "HcsModifyComputeSystem"),
    *("HcsGetComputeSystemProperties", "HcsEnumerateComputeSystems", "HcsGetServiceProperties"),
    *("HcsGrantVmAccess", "HcsRevokeVmAccess"),
)
"""Exports without which nothing works; every supported Windows has them."""
_UPDATE = "update Windows, to Windows 10 2004 (build 19041) or later"
_MOST_WORDS = 300


class HypervBackend:
    """See `hypervisor.base.Backend`."""

    name = "hyperv"
    capabilities = Capabilities(
        disk_formats=(DiskFormat.VHDX, DiskFormat.VHD),
        max_disks=document.LUNS * len(document.CONTROLLERS),
        max_cpus=os.cpu_count() or 1,
        max_shares=64,
        architectures=(Architecture.AARCH64 if platform.machine() == "ARM64" else Architecture.X86_64,),
        pause=True,
        snapshot=True,
        hot_plug=True,
    )

    def __init__(self, on: Platform | None = None, records: Path | None = None) -> None:
        """Use the system `on`, by default this one, and keep records in that directory, by default the user's."""
        self._on = on
        self._records = records
        self._core: ComputeCore | None = None

    def availability(self) -> Availability:
        """See `Backend.availability`: asks the Host Compute Service whether it serves this user."""
        try:
            system = self._system()
            document.check_build(system.build())
            core = self._library()
            if missing := [name for name in _NEEDED if not core.has(name)]:
                raise BackendUnavailable(f"computecore.dll of this Windows lacks {', '.join(missing)}", hint=_UPDATE)
            outcome = core.service_properties(requests.encode(document.SERVICE_QUERY))
            if not outcome.ok:
                call = "HcsGetServiceProperties"
                raise hresult.error("the Host Compute Service refuses", outcome.code, outcome.document, call=call)
        except PropolisError as error:
            return Availability(usable=False, reason=str(error), remedy=error.hint)
        return Availability(
            usable=True, reason=f"Hyper-V of Windows build {system.build()} answers this user", accelerated=True
        )

    def prepare_rootfs(self, rootfs: Path, init: InitConfig) -> Path:
        """See `Backend.prepare_rootfs`; attributes and places that Hyper-V refuses are told before anything boots."""
        try:
            return self._system().reach(rootfs.absolute())
        except BackendError as error:
            raise BackendError(f"the disk of {init.hostname} cannot be attached: {error}", hint=error.hint) from error

    def sweep(self) -> tuple[str, ...]:
        """See `Sweeping.sweep`."""
        ledger = self._ledger()
        return tuple(orphans.sweep(self._library(), ledger)) if orphans.orphans(ledger) else ()

    def holds(self, machine_id: str) -> bool:
        """See `Sweeping.holds`."""
        identity = str(document.system_id(machine_id))
        return any(entry.identity == identity for entry in orphans.orphans(self._ledger()))

    async def start(self, config: VMConfig) -> HypervHandle:
        """See `Backend.start`."""
        self.capabilities.require(config, self.name)
        system, core = self._system(), self._library()
        document.check_build(system.build())
        config = await in_thread(lambda _: self._made_ready(config))
        tail, undo = Tail(), contextlib.AsyncExitStack()
        access: Access | None = None
        try:
            config = _with_boot_files_together(config, undo)
            access = Access(core, self._ledger(), self._shared_files(), document.system_id(config.id), config)
            compute, channel = await self._assemble(config, access, tail, undo)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await undo.aclose()
            if isinstance(error, PropolisError):
                error.hint = "; ".join(filter(None, (error.hint, _withheld(access), _last_words(tail))))
            raise
        return HypervHandle(config.id, core, system, compute, channel, tail, undo)

    async def _assemble(
        self, config: VMConfig, access: Access, tail: Tail, undo: contextlib.AsyncExitStack
    ) -> tuple[ComputeSystem, GuestChannel]:
        """Take every step, its counterpart on `undo` first."""
        system = self._system()

        def tell(line: str) -> None:
            tail.append(f"{line}\n".encode())

        undo.push_async_callback(in_thread, lambda _: access.take_back(tell))
        await in_thread(access.grant)
        pipe = _console(system, config.id, tail)
        undo.push_async_callback(in_thread, lambda _: pipe.close())
        description = document.build(config, pipe=pipe.path, sid=system.user_sid(), windows=system.build())

        compute = ComputeSystem(self._library(), document.system_id(config.id))
        undo.push_async_callback(compute.close)
        undo.push_async_callback(_end, compute, tell)
        await compute.create(description)
        runtime_id = await compute.runtime_id()
        await compute.watch()
        listener = system.listen(runtime_id, hvsocket.service_id(AGENT_PORT))
        channel = GuestChannel(listener, tell)
        undo.push_async_callback(channel.aclose)
        compute.on_end = channel.machine_ended
        # before the channel is closed, so that what the guest sends while it ends is not refused
        undo.push_async_callback(_end, compute, tell)
        await compute.start()
        access.proven = True
        for share in config.shares:
            await directories.show(compute, system, share)
        return compute, channel

    def _made_ready(self, config: VMConfig) -> VMConfig:
        """The configuration with its files where the machine finds them; what may be said before anything is done."""
        reach = self._system().reach
        boot = replace(config.boot, kernel=reach(config.boot.kernel), initramfs=reach(config.boot.initramfs))
        disks = tuple(replace(disk, path=reach(disk.path)) for disk in config.disks)
        shares = tuple(replace(share, path=reach(share.path)) for share in config.shares)
        memory = host.memory_bytes()
        if config.memory > memory:
            raise BackendError(
                f"the machine is to have {config.memory >> 20} MiB of memory, and the host has {memory >> 20} MiB",
                hint="ask for less with --memory",
            )
        return replace(config, boot=boot, disks=disks, shares=shares)

    def _system(self) -> Platform:
        if self._on is None:
            self._on = _this_system()
        return self._on

    def _library(self) -> ComputeCore:
        if self._core is None:
            self._core = self._system().library()
        return self._core

    def _ledger(self) -> Ledger:
        return Ledger(self._directory())

    def _shared_files(self) -> SharedFiles:
        return SharedFiles(self._directory() / "shared-files.json")

    def _directory(self) -> Path:
        return self._records or data_directory() / "hyperv"


def _this_system() -> Platform:
    if sys.platform == "win32":
        from propolis.hypervisor.hyperv.platform_windows import WindowsPlatform  # noqa: PLC0415 - only exists there

        return WindowsPlatform()
    raise BackendUnavailable(f"Hyper-V is part of Windows, and this is {sys.platform}", hint="use --backend qemu")


def _console(system: Platform, machine_id: str, tail: Tail) -> ConsolePipe:
    """A pipe for the console under a name that nobody can have guessed."""
    try:
        return system.console(f"propolis-{machine_id}-{secrets.token_hex(8)}", tail.append)
    except OSError as error:
        raise BackendError(f"no pipe can be made for the machine's console: {error.strerror or error}") from error


def _withheld(access: Access | None) -> str:
    if access is None or not access.withheld:
        return ""
    return f"this user may not change who reads {access.withheld[0]}, so use a copy if machines may not read it"


def _last_words(tail: Tail) -> str:
    lines = [line.strip() for line in tail.text().splitlines() if line.strip()]
    return f"its console ends with: {lines[-1][:_MOST_WORDS]}" if lines else ""


async def _end(compute: ComputeSystem, tell: Callable[[str], None]) -> None:
    """End the machine if it is not gone. What fails is told: closing its handle ends it anyway."""
    try:
        await compute.terminate()
    except PropolisError as error:
        tell(f"propolis: {error}")


def _with_boot_files_together(config: VMConfig, undo: contextlib.AsyncExitStack) -> VMConfig:
    """The firmware of an aarch64 machine reads kernel and initramfs from one directory: the machine's own, by links."""
    boot = config.boot
    if boot.architecture is not Architecture.AARCH64 or boot.kernel.parent == boot.initramfs.parent:
        return config
    links = {source: config.directory / name for source, name in ((boot.kernel, "kernel"), (boot.initramfs, "initrd"))}
    for source, link in links.items():
        undo.callback(link.unlink, missing_ok=True)
        try:
            link.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, link)
    kernel, initramfs = (Path(os.path.realpath(link)) for link in links.values())
    together = BootPlan(kernel=kernel, initramfs=initramfs, cmdline=boot.cmdline, architecture=boot.architecture)
    return replace(config, boot=together)
