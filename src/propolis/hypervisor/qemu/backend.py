"""The QEMU backend: the guest as a child process, under KVM or in software emulation.

What QEMU is told stands in `argv`, how it is watched in `process`, how it is asked in `monitor`.
"""

import contextlib
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from propolis.channel import ByteChannel
from propolis.errors import BackendError, BackendUnavailable
from propolis.host.sockets import channel
from propolis.hypervisor.base import Availability, Capabilities
from propolis.hypervisor.qemu import argv, probe
from propolis.hypervisor.qemu.process import VMMProcess
from propolis.spec import Architecture, InitConfig, VMConfig

if TYPE_CHECKING:
    from propolis.hypervisor.qemu.monitor import Monitor

_SECTOR = 512
_START_TIMEOUT = 20.0
"""Seconds for QEMU to answer on its monitor. It takes some 50 ms; a loaded machine is given time."""
_REAP_TIMEOUT = 10.0
_MOST_WORDS = 1000
"""Characters of QEMU's own complaint in an error."""


class QemuBackend:
    """See `hypervisor.base.Backend`."""

    name = "qemu"
    capabilities = Capabilities(
        disk_formats=tuple(argv.BLOCK_DRIVERS),
        max_disks=256,
        max_cpus=64,
        max_shares=20 if sys.platform != "win32" else 0,
        architectures=(Architecture.X86_64,),
    )

    def availability(self) -> Availability:
        """See `Backend.availability`."""
        if sys.platform == "win32":
            return Availability.unusable("the QEMU backend does not guard its child on Windows yet")
        try:
            program = probe.binary(Architecture.X86_64)
        except BackendUnavailable as error:
            return Availability.unusable(str(error), error.hint)
        hardware = probe.hardware()
        how = "with KVM" if hardware.usable else "in software emulation"
        return Availability(
            usable=True,
            reason=f"{program} {how}: {hardware.reason}",
            remedy=hardware.remedy,
            accelerated=hardware.usable,
        )

    def prepare_rootfs(self, rootfs: Path, init: InitConfig) -> Path:
        """See `Backend.prepare_rootfs`; QEMU takes any readable file of whole sectors."""
        try:
            size = rootfs.stat().st_size
        except OSError as error:
            raise BackendError(f"the disk {rootfs} of {init.hostname} cannot be read: {error.strerror}") from error
        if size == 0 or size % _SECTOR:
            raise BackendError(f"the disk {rootfs} has {size} bytes, which is not a number of whole sectors")
        return rootfs.absolute()

    async def start(self, config: VMConfig) -> "QemuHandle":
        """See `Backend.start`."""
        self.capabilities.require(config, self.name)
        program = probe.binary(config.boot.architecture)
        accelerator = probe.accelerator()
        qmp, qmp_far = socket.socketpair()
        agent, agent_far = socket.socketpair()
        with contextlib.ExitStack() as near, qmp_far, agent_far:
            near.enter_context(qmp)
            near.enter_context(agent)
            wiring = argv.Wiring(qmp=qmp_far.fileno(), agent=agent_far.fileno())
            arguments = argv.build(
                program,
                config,
                accelerator,
                wiring,
                firmware=probe.firmware(program),
                sandbox=sys.platform == "linux",
            )
            try:
                process = VMMProcess(arguments, (wiring.qmp, wiring.agent), config.directory / argv.PID_FILE)
            except OSError as error:
                raise BackendError(f"QEMU could not be started: {error.strerror}") from error
            near.pop_all()
        from propolis.hypervisor.qemu.monitor import Monitor  # while QEMU comes up

        monitor = Monitor(channel(qmp))
        handle = QemuHandle(config.id, process, monitor, channel(agent))
        try:
            with anyio.fail_after(_START_TIMEOUT):
                await monitor.negotiate()
        except BaseException as error:
            await handle.stop()
            if isinstance(error, (BackendError, TimeoutError)):
                words = " ".join(process.messages.text().split()) or str(error)
                raise BackendError(f"QEMU could not start the machine: {words[:_MOST_WORDS]}") from error
            raise
        return handle


class QemuHandle:
    """See `hypervisor.base.VMHandle`."""

    def __init__(self, machine_id: str, process: VMMProcess, monitor: "Monitor", channel: ByteChannel) -> None:
        self._id = machine_id
        self._process = process
        self._monitor = monitor
        self._channel = channel

    @property
    def id(self) -> str:
        """See `VMHandle.id`."""
        return self._id

    @property
    def is_alive(self) -> bool:
        """See `VMHandle.is_alive`."""
        return self._process.returncode is None

    @property
    def processes(self) -> tuple[int, ...]:
        """See `VMHandle.processes`."""
        return self._process.pids

    def console(self) -> str:
        """See `VMHandle.console`; what QEMU itself complained of comes last."""
        return self._process.console.text() + self._process.messages.text()

    async def agent(self) -> ByteChannel:
        """See `VMHandle.agent`."""
        return self._channel

    async def wait(self) -> None:
        """See `VMHandle.wait`."""
        await self._process.wait()

    async def stop(self, timeout: float = 0.0) -> None:
        """See `VMHandle.stop`; the guest's power button is pressed first, if there is time for it."""
        if self.is_alive and timeout > 0:
            with anyio.move_on_after(timeout), contextlib.suppress(BackendError):
                await self._monitor.execute("system_powerdown")
                await self._process.wait()
        self._process.kill()
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(_REAP_TIMEOUT):
                await self._process.wait()
            await self._monitor.aclose()
            await self._channel.aclose()
