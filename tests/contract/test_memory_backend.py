from pathlib import Path

from propolis.spec import BootPlan, Disk, VMConfig
from propolis.testing.backend import MemoryBackend
from propolis.testing.contract import BackendContract


class TestMemoryBackend(BackendContract):
    def make_backend(self):
        return MemoryBackend()

    def make_config(self, directory: Path):
        directory = directory / "machine"
        directory.mkdir()
        for name in ("kernel", "initramfs", "disk"):
            (directory / name).write_bytes(bytes(4096))
        boot = BootPlan(kernel=directory / "kernel", initramfs=directory / "initramfs", cmdline="quiet")
        disks = (Disk(path=directory / "disk", read_only=False),)
        return VMConfig(id="0123456789ab", boot=boot, disks=disks, cpus=1, memory=256 << 20, directory=directory)
