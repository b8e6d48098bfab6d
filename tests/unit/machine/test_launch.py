"""Launch over a backend in memory: order and clean-up, which is all that this module decides."""

import contextlib
import tarfile
import time
from dataclasses import replace
from types import SimpleNamespace

import anyio
import pytest

from propolis.errors import (
    BackendError,
    BootFailed,
    CommandNotFound,
    KernelUnsuitable,
    MachineLost,
    NameInUse,
    PlatformMismatch,
    Unsupported,
)
from propolis.guest.features import Ability
from propolis.hypervisor import registry
from propolis.image import layers
from propolis.machine import launch as module
from propolis.machine.grouping import ungrouped
from propolis.machine.handle import AsyncMachine, arun
from propolis.spec import Architecture
from propolis.state.record import MachineRecord, ProcessIdentity
from propolis.state.store import MachineStore
from propolis.testing.backend import MemoryBackend
from propolis.testing.guest import FakeGuest
from propolis.testing.images import File, write_layout

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An image, directories of our own, and two files in place of a distribution's kernel."""
    monkeypatch.setenv("PROPOLIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PROPOLIS_DATA", str(tmp_path / "data"))
    write_layout(tmp_path / "image", [{"bin/init": File(mode=0o755)}], config={"Cmd": ["/bin/init"]})
    for name in ("kernel", "initramfs"):
        (tmp_path / name).write_bytes(b"x")
    kernel = SimpleNamespace(release="6.1", abilities=frozenset(Ability) - {Ability.HYPERV})
    monkeypatch.setattr(module, "find_kernel", lambda *_: kernel)
    monkeypatch.setattr(module, "boot_files", lambda *_, **__: (tmp_path / "kernel", tmp_path / "initramfs"))
    return SimpleNamespace(image=f"oci:{tmp_path / 'image'}", machines=tmp_path / "data" / "machines")


@pytest.fixture
def backend(monkeypatch):
    """The only backend; `guest` is what each of its machines does."""

    class Backend(MemoryBackend):
        guest = staticmethod(anyio.sleep_forever)

        async def start(self, config):
            handle = await super().start(config)
            self.tasks.start_soon(type(self).guest, handle)
            return handle

    the_one = Backend()
    monkeypatch.setattr(registry, "_BUILT_IN", {"memory": lambda: the_one})
    return the_one


async def cancelled_when(begun, call):
    """Run `call`, which goes on for ever, and cancel it when `begun` says so."""
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            while not begun():  # noqa: ASYNC110 - a thread tells
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()


async def with_guest(backend, guest, call):
    """Run `call` while the backend's machines behave as `guest`."""
    type(backend).guest = staticmethod(guest)
    with anyio.fail_after(20), ungrouped():
        async with anyio.create_task_group() as backend.tasks:
            try:
                return await call()
            finally:
                backend.tasks.cancel_scope.cancel()


def serving(**programs):
    async def guest(handle):
        with contextlib.suppress(BrokenPipeError), ungrouped():  # the host may leave at any time
            await FakeGuest(handle.guest, programs).serve()

    return guest


def is_clean(place, backend):
    return not list(place.machines.glob("*")) and not any(machine.is_alive for machine in backend.machines)


async def test_a_workload_runs_to_its_end_and_nothing_is_left(place, backend):
    async def init(process):
        await process.write(b"hello")
        return 4

    result = await with_guest(backend, serving(init=init), lambda: arun(place.image))
    assert (result.exit_code, result.stdout) == (4, b"hello")
    assert is_clean(place, backend)


@pytest.fixture
def rootfs(tmp_path):
    (tmp_path / "root" / "bin").mkdir(parents=True)
    (tmp_path / "root" / "bin" / "init").write_bytes(b"x" * 100_000)
    return tmp_path / "root"


async def test_a_directory_is_a_disk_of_its_machine_and_is_not_changed(place, backend, rootfs, tmp_path):
    before = [(path, path.stat().st_mtime_ns) for path in rootfs.rglob("*")]
    seen = []

    async def init(process):
        disk, _ = backend.machines[-1].config.disks
        seen.append(disk)
        assert disk.read_only
        assert b"x" * 4096 in disk.path.read_bytes()
        return 3

    for _ in range(2):
        result = await with_guest(backend, serving(init=init), lambda: arun(rootfs=rootfs, command=["init"]))
        assert result.exit_code == 3
    assert seen[0].path != seen[1].path
    assert seen[0].path.is_relative_to(place.machines)
    assert [(path, path.stat().st_mtime_ns) for path in rootfs.rglob("*")] == before
    assert not list((tmp_path / "cache").rglob("*.raw"))
    assert is_clean(place, backend)


async def test_a_tar_is_converted_once(place, backend, rootfs, tmp_path):
    async def init(_process):
        return 0

    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        tar.add(rootfs, ".")
    disks = []
    for _ in range(2):
        await with_guest(backend, serving(init=init), lambda: arun(None, ["init"], rootfs=tmp_path / "x.tar.gz"))
        (disk,) = (tmp_path / "cache" / "layers").glob("*.raw")
        disks.append((disk, disk.stat().st_mtime_ns, disk.stat().st_ino))
    assert disks[0] == disks[1]
    assert is_clean(place, backend)


async def test_a_launch_that_is_cancelled_while_a_directory_is_read_leaves_nothing(place, backend, rootfs, monkeypatch):
    begun = []

    def endless(_directory, _sink, reporter):
        begun.append(list(place.machines.rglob("rootfs.*")) + list(place.machines.rglob(".staged-*")))
        while True:
            time.sleep(0.01)
            reporter.advance("read directory")

    monkeypatch.setattr("propolis.image.rootfs.push_directory", endless)
    await cancelled_when(lambda: begun, lambda: arun(None, ["init"], rootfs=rootfs))
    assert len(begun[0]) == 1
    assert is_clean(place, backend)


@pytest.mark.parametrize("platform", ["linux/s390x", "linux/arm64/v8"])
async def test_a_platform_that_the_backend_does_not_run_is_refused_before_anything_is_read(place, backend, platform):
    backend.capabilities = replace(backend.capabilities, architectures=(Architecture.X86_64,))
    with pytest.raises(Unsupported, match=f"machines for {platform} do not run on this host, only for linux/amd64"):
        await arun("oci:/nowhere", platform=platform)
    with pytest.raises(PlatformMismatch, match="not for linux/amd64/v3"):
        await arun(place.image, platform="linux/amd64/v3")
    assert is_clean(place, backend)


async def test_a_guest_that_never_answers_has_not_booted(place, backend):
    async def silent(handle):
        handle.print_to_console("VFS: unable\nKernel panic: no root\nend\n")

    with pytest.raises(BootFailed) as caught:
        await with_guest(backend, silent, lambda: arun(place.image, boot_timeout=0.2))
    assert "Kernel panic: no root" in caught.value.hint
    assert caught.value.console.endswith("end\n")
    assert is_clean(place, backend)


async def test_more_cpus_than_there_are_are_named_when_a_guest_does_not_answer(place, backend, monkeypatch):
    async def silent(_handle):
        pass

    for ours, words in ((2, "3 CPUs are more than this host's 2"), (3, "--boot-timeout")):
        monkeypatch.setattr("os.cpu_count", lambda found=ours: found)
        with pytest.raises(BootFailed) as caught:
            await with_guest(backend, silent, lambda: arun(place.image, boot_timeout=0.2, cpus=3))
        assert words in caught.value.hint


async def test_a_guest_that_dies_has_not_booted(place, backend):
    async def dying(handle):
        handle.print_to_console("propolis-init: no disk\n")
        await handle.power_off()

    with pytest.raises(BootFailed) as caught:
        await with_guest(backend, dying, lambda: arun(place.image))
    assert "no disk" in caught.value.hint
    assert is_clean(place, backend)


async def test_a_machine_that_goes_away_is_told_with_what_it_printed_last(place, backend):
    """The agent's channel and the console end in either order."""

    async def init(_process):
        await anyio.sleep_forever()

    async def ended(handle):
        await handle.guest.aclose()
        await anyio.sleep(0.1)
        handle.print_to_console("Power down\n")
        await handle.power_off()

    async def used():
        async with AsyncMachine.start(place.image) as machine:
            backend.tasks.start_soon(ended, backend.machines[0])
            with pytest.raises(MachineLost) as caught:
                await machine.wait()
        assert "Power down" in caught.value.console
        assert "Power down" in caught.value.hint

    await with_guest(backend, serving(init=init), used)
    assert is_clean(place, backend)


async def test_a_backend_that_refuses_leaves_nothing(place, backend, monkeypatch):
    async def refuse(_config):
        raise BackendError("no")

    monkeypatch.setattr(backend, "start", refuse)
    with pytest.raises(BackendError, match="no"):
        await with_guest(backend, serving(), lambda: arun(place.image))
    assert is_clean(place, backend)


@pytest.mark.parametrize("fault", [None, BackendError("it cannot be asked")])
async def test_what_still_runs_of_the_dead_is_ended_before_its_files_go(place, backend, fault):
    store = MachineStore(place.machines.parent)
    owner = ProcessIdentity(pid=1, start="long ago")
    left = MachineRecord(id="left", name="left", image="x", directory=place.machines / "left", owner=owner)
    store.add(left)
    left.directory.mkdir(parents=True)
    seen = []

    def sweep():
        seen.append(left.directory.exists())
        if fault is not None:
            raise fault
        return ()

    async def init(_process):
        return 0

    backend.sweep, backend.holds = sweep, lambda machine_id: False
    assert (await with_guest(backend, serving(init=init), lambda: arun(place.image))).exit_code == 0
    assert seen == [True]
    assert is_clean(place, backend)


async def test_a_kernel_without_drivers_for_the_backend_is_refused_before_anything_is_made(place, backend):
    backend.capabilities = replace(backend.capabilities, vmbus=True)
    with pytest.raises(KernelUnsuitable, match=r"kernel 6\.1 cannot run guests of Hyper-V"):
        await with_guest(backend, serving(), lambda: arun(place.image))
    assert is_clean(place, backend)
    assert not backend.machines


async def test_a_command_that_is_not_there_leaves_nothing(place, backend):
    with pytest.raises(CommandNotFound):
        await with_guest(backend, serving(), lambda: arun(place.image))
    assert is_clean(place, backend)


async def test_a_cancelled_launch_leaves_nothing(place, backend):
    async def silent(_handle):
        await anyio.sleep_forever()

    async def cancelled():
        for steps in range(0, 40, 3):
            with anyio.move_on_after(steps / 100):
                await arun(place.image)
            assert is_clean(place, backend)

    await with_guest(backend, silent, cancelled)


async def test_a_name_is_free_again_when_its_machine_has_ended(place, backend):
    async def init(process):
        await process.read()
        await anyio.sleep_forever()

    async def twice():
        async with AsyncMachine.start(place.image, name="web") as machine:
            assert machine.name == "web"
            assert repr(machine) == f"<AsyncMachine web {machine.id}>"
            with pytest.raises(NameInUse):
                await arun(place.image, name="web")
            assert machine.is_alive
            await backend.machines[0].power_off()
            with pytest.raises(MachineLost):
                await machine.exec(["x"])
        async with AsyncMachine.start(place.image, name="web"):
            await backend.machines[1].power_off()

    await with_guest(backend, serving(init=init), twice)
    assert is_clean(place, backend)


async def test_a_conversion_that_nobody_waits_for_ends_and_leaves_nothing(place, backend, tmp_path, monkeypatch):
    def staged():
        return list((tmp_path / "cache").rglob(".staged-*"))

    seen = []

    def endless(_blob, _layer, _sink, reporter):
        while True:
            seen.extend(staged())
            time.sleep(0.01)
            reporter.advance("unpack layer")

    monkeypatch.setattr(layers, "unpack", endless)
    await cancelled_when(lambda: seen, lambda: arun(place.image))
    with anyio.fail_after(30):
        while staged():  # noqa: ASYNC110 - a thread removes it
            await anyio.sleep(0.01)
