"""The floor to compare with: the same kernel in the same QEMU, booted bare to an /init that says one word.

No disks, no modules, no agent: what is left is the emulator, the kernel, and a program of ten lines.
"""

import socket
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path

from propolis.guest import cmdline, cpio
from propolis.guest.kernel import find_kernel
from propolis.host.directories import cache_directory
from propolis.hypervisor.qemu import argv, probe
from propolis.hypervisor.qemu.process import VMMProcess
from propolis.spec import Architecture, BootPlan, VMConfig

_INIT = r"""
#include <unistd.h>
int main(void) { return write(1, "floor\n", 6) != 6 || pause(); }
"""


@lru_cache(maxsize=1)
def _initramfs() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        source, program = Path(directory, "init.c"), Path(directory, "init")
        source.write_text(_INIT)
        compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-static", "-Os", "-s"]
        subprocess.run([*compiler, "-o", program, source], check=True)
        entries = [cpio.directory("dev"), cpio.character_device("dev/console", 5, 1)]
        return cpio.archive([*entries, cpio.file("init", program.read_bytes(), 0o755)])


def bare_boot_seconds() -> float:
    """Seconds from starting QEMU to the word on its console."""
    kernel = find_kernel(cache_directory(), Architecture.X86_64)
    with tempfile.TemporaryDirectory() as directory:
        initramfs = Path(directory, "initramfs")
        initramfs.write_bytes(_initramfs())
        config = VMConfig(
            id="floor",
            boot=BootPlan(
                kernel=kernel.image,
                initramfs=initramfs,
                cmdline=cmdline.build(Architecture.X86_64, layers=0),
            ),
            disks=(),
            cpus=1,
            memory=512 << 20,
            directory=Path(directory),
        )
        return _boot(config)


def _boot(config: VMConfig) -> float:
    pairs = [socket.socketpair(), socket.socketpair()]
    far = [pair[1].fileno() for pair in pairs]
    program = probe.binary(Architecture.X86_64)
    wiring = argv.Wiring(qmp=far[0], agent=far[1])
    arguments = argv.build(program, config, probe.accelerator(), wiring, firmware=probe.firmware(program))
    before = time.perf_counter()
    process = VMMProcess(arguments, far, config.directory / argv.PID_FILE)
    try:
        while "floor" not in process.console.text() and process.returncode is None:
            time.sleep(0.002)
        seconds = time.perf_counter() - before
        if "floor" not in process.console.text():
            raise RuntimeError(process.messages.text() + process.console.text())
        return seconds
    finally:
        process.kill()
        while process.returncode is None:
            time.sleep(0.01)
        for near, other in pairs:
            near.close()
            other.close()
