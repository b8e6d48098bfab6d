"""One running machine under Hyper-V; see `hypervisor.base.VMHandle`."""

import contextlib
from dataclasses import replace
from pathlib import Path

import anyio

from propolis.channel import ByteChannel
from propolis.hypervisor.console import KEPT_BYTES, Tail
from propolis.hypervisor.hyperv import directories, document
from propolis.hypervisor.hyperv._ffi import ComputeCore
from propolis.hypervisor.hyperv.access import StateFile
from propolis.hypervisor.hyperv.base import Platform
from propolis.hypervisor.hyperv.channel import GuestChannel
from propolis.hypervisor.hyperv.system import ComputeSystem
from propolis.hypervisor.hyperv.threads import in_thread
from propolis.spec import Share


class HypervHandle:
    """See `hypervisor.base.VMHandle`, `Snapshotting` and `HotPlugging`."""

    def __init__(
        self,
        machine_id: str,
        core: ComputeCore,
        platform: Platform,
        system: ComputeSystem,
        channel: GuestChannel,
        tail: Tail,
        undo: contextlib.AsyncExitStack,
    ) -> None:
        """Take over a started system; `undo` ends it and takes back all that it was given."""
        self._id = machine_id
        self._core = core
        self._platform = platform
        self._system = system
        self._channel = channel
        self._tail = tail
        self._undo = undo
        self._turn = anyio.Lock()

    @property
    def id(self) -> str:
        """See `VMHandle.id`."""
        return self._id

    @property
    def is_alive(self) -> bool:
        """See `VMHandle.is_alive`."""
        return not self._system.ended.is_set()

    @property
    def processes(self) -> tuple[int, ...]:
        """See `VMHandle.processes`; the worker process is Windows' own."""
        return ()

    def console(self) -> str:
        """See `VMHandle.console`; what the kernel left with the hypervisor, and how it ended, come last."""
        text = self._tail.text()
        crash, ended = self._system.crash.strip(), self._system.exit
        if crash and crash[-200:] not in text:
            text = f"{text}\n{crash}\n"
        if ended is not None and ended.cause:
            text = f"{text}\nHyper-V: {ended.cause} ({ended.kind})\n"
        return text[-KEPT_BYTES:]

    async def agent(self) -> ByteChannel:
        """See `VMHandle.agent`."""
        return self._channel

    async def wait(self) -> None:
        """See `VMHandle.wait`."""
        await self._system.ended.wait()

    async def stop(self, timeout: float = 0.0) -> None:
        """See `VMHandle.stop`; that the guest powers off is asked of its agent, before."""
        if self.is_alive and timeout > 0:
            with anyio.move_on_after(timeout):
                await self._system.ended.wait()
        with anyio.CancelScope(shield=True):
            async with self._turn:
                await self._undo.aclose()

    async def pause(self) -> None:
        """See `Snapshotting.pause`.

        Raises:
            BackendError: Hyper-V refuses, for example a machine that is paused already.
        """
        await self._system.pause()

    async def resume(self) -> None:
        """See `Snapshotting.resume`.

        Raises:
            BackendError: Hyper-V refuses, for example a machine that runs.
        """
        await self._system.resume()

    async def save(self, path: Path) -> None:
        """See `Snapshotting.save`; `path` is new, and ends in .vmrs.

        Raises:
            BackendError: Hyper-V refuses; there is no file then.
            StorageFull: no room for it.
        """
        file = StateFile(self._core, self._system.identity, path)
        try:
            await in_thread(lambda _: file.make())
            await self._system.save(file.name)
            file.keep()
        finally:
            with anyio.CancelScope(shield=True):
                await in_thread(lambda _: file.release())

    async def add_share(self, share: Share) -> None:
        """See `HotPlugging.add_share`.

        Raises:
            BackendError: the directory cannot be shared, or Hyper-V refuses.
        """
        path = await in_thread(lambda _: self._platform.reach(share.path))
        await directories.show(self._system, self._platform, replace(share, path=path))

    async def remove_share(self, tag: str) -> None:
        """See `HotPlugging.remove_share`.

        Raises:
            BackendError: there is none of that tag, or Hyper-V refuses.
        """
        await self._system.modify(f"the share {tag} cannot be taken away", document.remove_share(tag))
