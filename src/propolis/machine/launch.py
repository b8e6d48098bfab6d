"""From what a caller asks for to a machine whose agent answers. Where all rooms meet; read it downwards.

It decides order and clean-up, nothing else: each step is one call into the room that knows how.
"""

import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from propolis.disk.cache import LayerCache
from propolis.disk.writable import make_writable
from propolis.errors import BackendError, MachineError, Unsupported
from propolis.guest import cmdline, features
from propolis.guest.initramfs import boot_files
from propolis.guest.kernel import find_kernel, given_kernel
from propolis.host import system
from propolis.host.directories import cache_directory, data_directory
from propolis.host.files import storage_errors
from propolis.hypervisor import registry
from propolis.hypervisor.base import Backend, Sweeping, VMHandle
from propolis.image.manifest import Config, Platform
from propolis.image.opening import open_image
from propolis.image.platforms import architecture_of, platform_of
from propolis.image.source import Image
from propolis.image.store import BlobStore
from propolis.images.opening import open_held, reference_of
from propolis.machine.conversion import layer_disks, own_disk
from propolis.machine.last_words import greeted, told
from propolis.machine.mounts import check_sources, prepare
from propolis.machine.pulling import platform_for
from propolis.machine.threads import finished, in_thread
from propolis.machine.workload import main_process
from propolis.progress import Reporter, Revocable
from propolis.spec import Architecture, BootPlan, Disk, DiskFormat, InitConfig, MachineSpec, Mount, Process, VMConfig
from propolis.state.leases import Lease
from propolis.state.record import MachineRecord, ProcessIdentity
from propolis.state.store import MachineStore, this_process

if TYPE_CHECKING:
    from propolis.agent.client import AgentClient
    from propolis.agent.session import Hello
    from propolis.machine.control import Control

_INIT_FILE = ".propolis_init.json"
_SHORT_ID = 12
_SEED_BYTES = 64
_announced: set[str] = set()
_POWER_OFF_TIMEOUT = 2.0
"""Seconds for a guest whose processes have ended to sync and power off before it is forced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A machine whose agent answers. Its workload (`process`) has not been started."""

    record: MachineRecord
    process: Process
    mounts: tuple[Mount, ...]
    """Those it was started with."""
    backend: Backend
    handle: VMHandle
    agent: "AgentClient"
    hello: "Hello"
    control: "Control"

    def told(self) -> contextlib.AbstractAsyncContextManager[None]:
        """What the guest printed last belongs to the error that tells of its loss."""
        return told(self.handle)

    async def shut_down(self, grace: float) -> None:
        """End all processes, give them `grace` seconds for it, and power off. Idempotent."""
        await _shut_down(self.handle, self.agent, grace)


@contextlib.asynccontextmanager
async def launch(spec: MachineSpec, reporter: Reporter) -> AsyncIterator[Launched]:
    """Start the machine that `spec` asks for; on leaving, nothing of it remains.

    Leaving without having called `shut_down` forces it off, which loses nothing: its disk goes with it.

    Raises:
        PropolisError: any room's; see there. A guest that dies or is silent raises BootFailed.
    """
    check_sources(spec.mounts)
    backend, availability = await in_thread(registry.choose, spec.backend)
    store = MachineStore(data_directory())
    record = _record(spec, store)
    async with contextlib.AsyncExitStack() as clean_up:
        lease = Lease(cache_directory(), record.name)
        clean_up.callback(lease.release)
        with Revocable(reporter) as revocable:
            prepared = await in_thread(_prepare, spec, backend, revocable, lease)
        process = main_process(prepared.config, spec)
        if not availability.accelerated:
            _announce(reporter, availability.reason)
        clean_up.callback(store.remove, record)
        # none is left behind in its thread: it would make what has just been removed
        is_held = await anyio.to_thread.run_sync(_sweep, backend)
        await anyio.to_thread.run_sync(store.add, record, is_held)
        await anyio.to_thread.run_sync(_make_directory, record)
        if prepared.directory is not None:
            disk = record.directory / f"rootfs.{backend.capabilities.disk_formats[0]}"
            prepared.disks = [await finished(reporter, partial(_directory_disk, prepared.directory, disk))]
        config = await anyio.to_thread.run_sync(_assemble, spec, record, process, backend, prepared)
        reporter.begin("boot")
        handle = await backend.start(config)
        clean_up.push_async_callback(handle.stop)
        for pid in handle.processes[:1]:
            store.set_vmm(record.id, ProcessIdentity(pid=pid, start=system.process_start(pid) or ""))
        from propolis.agent.client import AgentClient  # while the guest boots
        from propolis.machine.control import Control

        agent = await clean_up.enter_async_context(AgentClient(await handle.agent()))
        hello = await greeted(agent, handle, spec.boot_timeout, spec.cpus)
        reporter.end("boot")
        control = Control(record, process, handle, agent, hello, partial(_shut_down, handle, agent))
        await clean_up.enter_async_context(control)
        launched = Launched(
            record=record,
            process=process,
            mounts=spec.mounts,
            backend=backend,
            handle=handle,
            agent=agent,
            hello=hello,
            control=control,
        )
        async with launched.told():
            yield launched


async def _shut_down(handle: VMHandle, agent: "AgentClient", grace: float) -> None:
    if handle.is_alive:
        with contextlib.suppress(MachineError), anyio.move_on_after(grace + _POWER_OFF_TIMEOUT):
            await agent.shutdown(grace)
            await handle.wait()
    await handle.stop()


@dataclass(slots=True, kw_only=True)
class _Prepared:
    """What a machine starts from."""

    config: Config
    disks: Sequence[Disk]
    boot: BootPlan
    directory: Path | None
    """A root file system that is still to be made a disk of."""


def _prepare(spec: MachineSpec, backend: Backend, reporter: Reporter, lease: Lease) -> _Prepared:
    """What can be shared between machines and is cached: the image's disks, kernel and initramfs."""
    cache = cache_directory()
    lease.take()
    wanted = platform_for(spec.platform, backend.capabilities.architectures[0])
    architecture = _runnable(wanted, backend)
    with _step(reporter, "open image"):
        image = open_held(partial(_open, spec, wanted, cache, reporter), cache, lease)
    with image:
        main_process(image.config, spec)  # an image without a command is told before any work
        with _step(reporter, "prepare disks"):
            disk_format = backend.capabilities.disk_formats[0]
            disks = layer_disks(image, LayerCache(cache / "layers"), disk_format, reporter)
    directory = Path(spec.image) if spec.rootfs and not image.layers else None
    with _step(reporter, "prepare kernel"):
        if spec.kernel is None:
            kernel = find_kernel(cache, architecture, reporter)
        else:
            kernel = given_kernel(spec.kernel, cache, architecture, reporter)
        shares = any(mount.source for mount in spec.mounts)
        features.demand(kernel.release, kernel.abilities, hyperv=backend.capabilities.vmbus, shares=shares)
        vmlinuz, initramfs = boot_files(kernel, initrd=spec.initrd)
    arguments = cmdline.build(architecture, layers=len(disks) + (directory is not None))
    boot = BootPlan(kernel=vmlinuz, initramfs=initramfs, cmdline=arguments, architecture=architecture)
    return _Prepared(config=image.config, disks=disks, boot=boot, directory=directory)


def _open(spec: MachineSpec, wanted: Platform, cache: Path, reporter: Reporter) -> Image:
    store = BlobStore(cache / "blobs")
    if not spec.rootfs:
        reference = reference_of(spec.image, cache)
        return open_image(
            reference, wanted, store, spec.pull, signature_policy=spec.signature_policy, reporter=reporter
        )
    from propolis.image.bare import open_bare

    return open_bare(Path(spec.image), wanted, store, reporter)


def _runnable(wanted: Platform, backend: Backend) -> Architecture:
    architecture = architecture_of(wanted)
    if architecture not in backend.capabilities.architectures:
        runs = ", ".join(str(platform_of(other)) for other in backend.capabilities.architectures)
        raise Unsupported(
            f"machines for {wanted} do not run on this host, only for {runs}",
            hint=f"propolis pull --platform {wanted} fetches the image without running it",
        )
    return architecture


def _directory_disk(directory: Path, disk: Path, reporter: Reporter) -> Disk:
    from propolis.image.rootfs import push_directory

    with _step(reporter, "prepare disks"):
        disk_format = DiskFormat(disk.suffix[1:])
        own_disk(disk, disk_format, str(directory), lambda sink: push_directory(directory, sink, reporter))
    return Disk(path=disk, format=disk_format)


def _sweep(backend: Backend) -> Callable[[str], bool]:
    """End what machines of dead processes left with the hypervisor, before `store.add` removes its files.

    Returns what says of a machine whether that was refused.
    """
    if not isinstance(backend, Sweeping):
        return lambda _: False
    with contextlib.suppress(BackendError):  # not this machine's fault; `doctor --fix` tells of it
        backend.sweep()
    return backend.holds


def _record(spec: MachineSpec, store: MachineStore) -> MachineRecord:
    machine_id = secrets.token_hex(_SHORT_ID // 2)
    return MachineRecord(
        id=machine_id,
        name=spec.name or f"machine-{machine_id}",
        image=spec.image,
        directory=store.machines / machine_id,
        owner=this_process(),
    )


def _make_directory(record: MachineRecord) -> None:
    with storage_errors(record.directory):
        record.directory.mkdir(parents=True, mode=0o700)


def _assemble(
    spec: MachineSpec, record: MachineRecord, process: Process, backend: Backend, prepared: _Prepared
) -> VMConfig:
    """What is in the machine's directory: the writable disk with the init's document in it."""
    layers = prepared.disks
    shares, mounts = prepare(spec.mounts, record.directory)
    init = InitConfig(
        process=process,
        hostname=spec.hostname or record.id,
        layers=len(layers),
        mounts=mounts,
        sysctls=spec.confinement.sysctls,
        seed=secrets.token_hex(_SEED_BYTES),
        resolver="".join(f"nameserver {address}\n" for address in spec.dns),
        most_tasks=spec.confinement.most_tasks,
        read_only=spec.confinement.read_only,
        unmasked=spec.confinement.unmasked,
        own_pids=spec.confinement.private_pids,
        later_shares=backend.capabilities.hot_plug,
    )
    disk_format = backend.capabilities.disk_formats[0]
    path = record.directory / f"machine.{disk_format}"
    document = json.dumps(init.to_json(), ensure_ascii=False).encode(errors="surrogateescape")
    make_writable(path, disk_format, {_INIT_FILE: document}, layers=[disk.path for disk in layers])
    own = Disk(path=backend.prepare_rootfs(path, init), format=disk_format, read_only=False)
    return VMConfig(
        id=record.id,
        boot=prepared.boot,
        disks=(*layers, own),
        cpus=spec.cpus,
        memory=spec.memory,
        directory=record.directory,
        shares=shares,
    )


def _announce(reporter: Reporter, reason: str) -> None:
    """Say once per process that guest code is emulated, and why."""
    if reason in _announced:
        return
    _announced.add(reason)
    reporter.notice(f"not accelerated: {reason}")


@contextlib.contextmanager
def _step(reporter: Reporter, name: str) -> Iterator[None]:
    reporter.begin(name)
    yield
    reporter.end(name)
