import shutil
from pathlib import Path

import pytest

from propolis.guest.initramfs import boot_files
from propolis.guest.kernel import find_kernel
from propolis.host.directories import cache_directory
from propolis.hypervisor.qemu.backend import QemuBackend
from propolis.spec import Architecture, BootPlan, Disk, VMConfig
from propolis.testing.contract import BackendContract

pytestmark = pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="QEMU is not installed")


class TestQemuBackend(BackendContract):
    def make_backend(self):
        return QemuBackend()

    def make_config(self, directory: Path):
        """The distribution's kernel and our init, told to wait for a disk that never comes."""
        directory = directory / "machine"
        directory.mkdir()
        kernel, initramfs = boot_files(find_kernel(cache_directory(), Architecture.X86_64))
        (directory / "disk").write_bytes(bytes(1 << 20))
        return VMConfig(
            id="0123456789ab",
            boot=BootPlan(kernel=kernel, initramfs=initramfs, cmdline="quiet propolis.layers=3"),
            disks=(Disk(path=directory / "disk", read_only=False),),
            cpus=1,
            memory=256 << 20,
            directory=directory,
        )
