"""The contract for Hyper-V, against the stand-in for HCS on this host, which boots the machines in QEMU."""

import shutil
import tempfile
from pathlib import Path

import pytest

from hcs.bridge import Bridge
from hcs.build import build_library
from hcs.linux import LinuxPlatform
from propolis.disk.writable import make_writable
from propolis.guest.initramfs import boot_files
from propolis.guest.kernel import find_kernel
from propolis.host.directories import cache_directory
from propolis.hypervisor.hyperv.backend import HypervBackend
from propolis.spec import Architecture, BootPlan, Disk, DiskFormat, VMConfig
from propolis.testing.contract import BackendContract

pytestmark = pytest.mark.skipif(
    shutil.which("qemu-system-x86_64") is None or shutil.which("cc") is None, reason="QEMU or a C compiler is missing"
)


@pytest.fixture(scope="session")
def standin(tmp_path_factory):
    return build_library(tmp_path_factory.mktemp("hcs"))


class TestHypervBackend(BackendContract):
    @pytest.fixture(autouse=True)
    def _bridge(self, standin, tmp_path_factory, monkeypatch):
        """A bridge for each test; what it knows of afterwards was left behind."""
        sockets = Path(tempfile.mkdtemp(prefix="hv"))
        machines = tmp_path_factory.mktemp("machines")
        (sockets / "hvsockets").mkdir()
        (sockets / "pipes").mkdir()
        with Bridge(machines, hvsockets=sockets / "hvsockets") as bridge:
            monkeypatch.setenv("PROPOLIS_HCS_BRIDGE", str(bridge.port))
            self._platform = LinuxPlatform(standin, sockets / "pipes", hvsockets=sockets / "hvsockets")
            self._records = tmp_path_factory.mktemp("records")
            yield
            assert self._platform.held() == []
            assert [system for system in bridge.systems.values() if system.state != "Stopped"] == []
            assert [grant for grant in bridge.grants if grant[0] != "*"] == []
            assert bridge.processes == ()
        assert list(machines.iterdir()) == []
        assert list(self._records.glob("????????-*.json")) == []
        shutil.rmtree(sockets)

    def make_backend(self):
        return HypervBackend(self._platform, self._records)

    def make_config(self, directory: Path):
        """A kernel and our init, told to wait for a disk that never comes."""
        directory = directory / "machine"
        directory.mkdir()
        kernel, initramfs = boot_files(find_kernel(cache_directory(), Architecture.X86_64))
        make_writable(directory / "disk.vhdx", DiskFormat.VHDX, {}, layers=[])
        return VMConfig(
            id="0123456789ab",
            boot=BootPlan(kernel=kernel, initramfs=initramfs, cmdline="quiet propolis.layers=3"),
            disks=(Disk(path=directory / "disk.vhdx", format=DiskFormat.VHDX, read_only=False),),
            cpus=1,
            memory=256 << 20,
            directory=directory,
        )
