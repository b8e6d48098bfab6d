"""What every backend must do, as a suite that its author runs: subclass, say how to make one, let pytest collect it.

    class TestMine(BackendContract):
        def make_backend(self): return MyBackend()
        def make_config(self, directory): return VMConfig(...)

Needs no plugin: each test runs its own event loop.
"""

import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import anyio

from propolis.errors import BackendError, Unsupported
from propolis.hypervisor.base import Backend, HotPlugging, VMHandle
from propolis.spec import Disk, InitConfig, NetEndpoint, NetEndpointKind, Process, Share, VMConfig

_PATIENCE = 60.0
"""Seconds for anything that the contract wants to end at all."""


class BackendContract(ABC):
    """The contract of `hypervisor.base`, one promise a test."""

    @abstractmethod
    def make_backend(self) -> Backend:
        """A backend that is usable on this host."""

    @abstractmethod
    def make_config(self, directory: Path) -> VMConfig:
        """A machine that starts and then stays up for a while, whose private directory is `directory`."""

    def run(self, directory: Path, test: Callable[[Backend, VMConfig], Awaitable[None]]) -> None:
        """Run one test in an event loop, with a limit."""

        async def limited() -> None:
            with anyio.fail_after(_PATIENCE):
                await test(self.make_backend(), self.make_config(directory))

        anyio.run(limited)

    def test_it_says_what_it_is(self) -> None:
        """Name, capabilities and availability are there before anything is started."""
        backend = self.make_backend()
        availability = backend.availability()
        assert backend.name
        assert backend.name == backend.name.lower()
        assert backend.capabilities.disk_formats
        assert backend.capabilities.architectures
        assert backend.capabilities.max_cpus >= 1
        assert availability.reason
        assert availability.usable or availability.remedy

    def test_a_started_machine_lives_until_it_is_stopped(self, tmp_path: Path) -> None:
        """The id is the caller's; stop ends it and may be repeated."""

        async def test(backend: Backend, config: VMConfig) -> None:
            handle = await backend.start(config)
            try:
                assert handle.id == config.id
                assert handle.is_alive
            finally:
                await handle.stop()
            assert not handle.is_alive
            assert handle.id == config.id
            assert handle.processes == ()
            await handle.stop()
            await handle.stop(1.0)
            await handle.wait()

        self.run(tmp_path, test)

    def test_any_number_of_tasks_may_wait(self, tmp_path: Path) -> None:
        """All of them wake when the machine is gone."""

        async def test(backend: Backend, config: VMConfig) -> None:
            handle = await backend.start(config)
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(handle.wait)
                await anyio.sleep(0.05)
                await handle.stop()

        self.run(tmp_path, test)

    def test_a_cancelled_wait_leaves_the_machine_alone(self, tmp_path: Path) -> None:
        """Waiting with a limit is not stopping."""

        async def test(backend: Backend, config: VMConfig) -> None:
            async with _started(backend, config) as handle:
                with anyio.move_on_after(0.05) as scope:
                    await handle.wait()
                assert scope.cancelled_caught
                assert handle.is_alive

        self.run(tmp_path, test)

    def test_a_guest_that_does_not_power_off_is_forced(self, tmp_path: Path) -> None:
        """The time-out of stop is kept."""

        async def test(backend: Backend, config: VMConfig) -> None:
            handle = await backend.start(config)
            before = time.monotonic()
            await handle.stop(0.3)
            assert not handle.is_alive
            assert time.monotonic() - before < 0.3 + 10

        self.run(tmp_path, test)

    def test_the_agents_channel_is_one_and_ends_with_the_machine(self, tmp_path: Path) -> None:
        """Asked twice it is the same; after stop it reads as ended and refuses bytes."""

        async def test(backend: Backend, config: VMConfig) -> None:
            async with _started(backend, config) as handle:
                channel = await handle.agent()
                assert await handle.agent() is channel
            while await channel.receive():
                pass
            try:
                for _ in range(1000):
                    await channel.send(bytes(65536))
            except BrokenPipeError:
                return
            raise AssertionError("bytes to a machine that is gone were taken")

        self.run(tmp_path, test)

    def test_the_console_is_text_and_bounded(self, tmp_path: Path) -> None:
        """Also after the machine's death."""

        async def test(backend: Backend, config: VMConfig) -> None:
            async with _started(backend, config) as handle:
                assert isinstance(handle.console(), str)
            assert len(handle.console()) <= 2 * (64 << 10)

        self.run(tmp_path, test)

    def test_two_machines_do_not_touch_each_other(self, tmp_path: Path) -> None:
        """Stopping one leaves the other."""

        async def test(backend: Backend, config: VMConfig) -> None:
            (tmp_path / "other").mkdir()
            disks = tuple(disk if disk.read_only else replace(disk, path=_copied(disk.path)) for disk in config.disks)
            other = replace(config, id="fedcba987654", directory=tmp_path / "other", disks=disks)
            async with _started(backend, config) as first, _started(backend, other) as second:
                await first.stop()
                assert not first.is_alive
                assert second.is_alive

        self.run(tmp_path, test)

    def test_what_it_cannot_do_it_refuses(self, tmp_path: Path) -> None:
        """Nothing is silently ignored."""

        async def test(backend: Backend, config: VMConfig) -> None:
            capabilities = backend.capabilities
            wrong = [
                replace(config, cpus=capabilities.max_cpus + 1),
                replace(config, disks=(Disk(path=config.disks[0].path),) * (capabilities.max_disks + 1)),
            ]
            wrong += [
                replace(config, net=NetEndpoint(kind=kind, path="x"))
                for kind in NetEndpointKind
                if kind not in capabilities.net
            ]
            for asked in wrong:
                try:
                    handle = await backend.start(asked)
                except Unsupported:
                    continue
                await handle.stop()
                raise AssertionError(f"started in spite of {asked}")

        self.run(tmp_path, test)

    def test_directories_come_and_go_where_it_says_so(self, tmp_path: Path) -> None:
        """A machine that runs is shown one more, once; what is not there cannot be taken away."""

        async def test(backend: Backend, config: VMConfig) -> None:
            if not backend.capabilities.hot_plug:
                return
            (tmp_path / "shown").mkdir()
            share = Share(tag="shown", path=tmp_path / "shown", read_only=True)
            async with _started(backend, config) as started:
                handle = cast("HotPlugging", started)
                for _ in range(2):
                    await handle.add_share(share)
                    await handle.remove_share("shown")
                for refused in (
                    handle.remove_share("shown"),
                    handle.add_share(replace(share, path=tmp_path / "missing")),
                ):
                    try:
                        await refused
                    except BackendError:
                        continue
                    raise AssertionError("a share that is not there was taken")

        self.run(tmp_path, test)

    def test_a_failed_start_says_why_and_leaves_nothing(self, tmp_path: Path) -> None:
        """The machine's directory is as it was."""

        async def test(backend: Backend, config: VMConfig) -> None:
            before = sorted(config.directory.iterdir())
            missing = Disk(path=config.directory / "missing-disk")
            try:
                handle = await backend.start(replace(config, disks=(missing,)))
            except BackendError as error:
                assert "missing-disk" in str(error)
            else:
                await handle.stop()
                raise AssertionError("started with a disk that does not exist")
            assert sorted(config.directory.iterdir()) == before

        self.run(tmp_path, test)

    def test_a_cancelled_start_leaves_nothing(self, tmp_path: Path) -> None:
        """Whenever the cancellation comes."""

        async def test(backend: Backend, config: VMConfig) -> None:
            before = sorted(config.directory.iterdir())
            for seconds in (0, 0.001, 0.005, 0.02):
                with anyio.move_on_after(seconds):
                    await (await backend.start(config)).stop()
                assert sorted(config.directory.iterdir()) == before

        self.run(tmp_path, test)

    def test_the_writable_disk_is_checked_before_it_is_attached(self, tmp_path: Path) -> None:
        """A good one comes back as a path that exists; a missing one is refused."""
        backend, config = self.make_backend(), self.make_config(tmp_path)
        init = InitConfig(process=Process(argv=("true",)), hostname="test", layers=0)
        assert backend.prepare_rootfs(config.disks[-1].path, init).is_file()
        try:
            backend.prepare_rootfs(tmp_path / "missing-disk", init)
        except BackendError as error:
            assert "missing-disk" in str(error)
        else:
            raise AssertionError("a missing disk was taken")


def _copied(path: Path) -> Path:
    return Path(shutil.copy(path, path.with_name(f"other-{path.name}")))


class _started:  # noqa: N801 - reads as a verb: `async with _started(...)`
    """A machine for the length of a context."""

    def __init__(self, backend: Backend, config: VMConfig) -> None:
        self._backend, self._config = backend, config

    async def __aenter__(self) -> VMHandle:
        self._handle = await self._backend.start(self._config)
        return self._handle

    async def __aexit__(self, *_exception: object) -> None:
        await self._handle.stop()
