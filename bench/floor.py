"""The floor to compare with: the same kernel in the same QEMU, booted bare to an init of thirty lines (`floor.c`).

No disks, no agent, no Python between call and QEMU: what is left is the emulator, the kernel, and a program that
answers on the same kind of port as the agent does.
"""

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from propolis.guest import cmdline, cpio
from propolis.guest.kernel import find_kernel
from propolis.host.directories import cache_directory
from propolis.hypervisor.qemu import argv, probe
from propolis.hypervisor.qemu.process import VMMProcess
from propolis.spec import Architecture, BootPlan, VMConfig

BULK = 256 << 20
"""Bytes that `floor.c` sends or takes at once."""
X86 = Architecture.X86_64
_PIECE = bytes(65536)
_SETTLE = 0.3
"""Seconds for a fresh guest to come to rest."""

Change = Callable[[list[str]], list[str]]
"""Makes another QEMU command line of the usual one."""


class NoAnswerError(Exception):
    """The bare machine did not come up; the text is its console's end."""


@dataclass(frozen=True, slots=True)
class Booted:
    """A bare machine that has answered."""

    seconds: float
    """From QEMU's start to its answer."""
    cpu: float
    """Processor seconds that QEMU took for it."""
    port: socket.socket

    def round_trips(self, count: int) -> list[float]:
        """Seconds of each of `count` bytes to the guest and back."""
        time.sleep(_SETTLE)
        taken = []
        for _ in range(count):
            before = time.perf_counter()
            self.port.sendall(b"e")
            assert self.port.recv(1) == b"e"
            taken.append(time.perf_counter() - before)
        return taken

    def output_rate(self) -> float:
        """Bytes a second that come out of the guest."""
        before, left = time.perf_counter(), BULK
        self.port.sendall(b"o")
        while left > 0:
            left -= len(self.port.recv(1 << 20))
        return BULK / (time.perf_counter() - before)

    def input_rate(self) -> float:
        """Bytes a second that go into the guest."""
        before = time.perf_counter()
        self.port.sendall(b"i" + _PIECE[1:])
        for _ in range(BULK // len(_PIECE) - 1):
            self.port.sendall(_PIECE)
        assert self.port.recv(1) == _PIECE[:1]
        return BULK / (time.perf_counter() - before)

    def log(self) -> str:
        """What its kernel has logged."""
        self.port.sendall(b"k")
        self.port.settimeout(_SETTLE)
        pieces = []
        with contextlib.suppress(TimeoutError):
            while piece := self.port.recv(1 << 20):
                pieces.append(piece)
        self.port.settimeout(None)
        return b"".join(pieces).decode(errors="replace")


@lru_cache(maxsize=1)
def _initramfs() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory, "init")
        compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-static", "-Os", "-s", "-w"]
        subprocess.run([*compiler, "-o", program, Path(__file__).with_suffix(".c")], check=True)
        entries = [cpio.directory("dev"), cpio.character_device("dev/console", 5, 1)]
        return cpio.archive([*entries, cpio.file("init", program.read_bytes(), 0o755)])


def _config(directory: Path, options: str, kernel: Path | None) -> VMConfig:
    initramfs = directory / "initramfs"
    initramfs.write_bytes(_initramfs())
    plan = BootPlan(
        kernel=kernel or find_kernel(cache_directory(), X86).image,
        initramfs=initramfs,
        cmdline=f"{cmdline.build(X86, layers=0)} {options}".strip(),
    )
    return VMConfig(id="floor", boot=plan, disks=(), cpus=1, memory=512 << 20, directory=directory)


@contextlib.contextmanager
def booted(
    change: Change = list, *, options: str = "", kernel: Path | None = None, patience: float = 20.0
) -> Iterator[Booted]:
    """Boot the bare machine; gone at the end.

    Args:
        change: what is different from the command line that a machine gets.
        options: more for the kernel.
        kernel: another than machines get.
        patience: seconds until `NoAnswerError`.
    """
    program = probe.binary(X86)
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as sockets:
        pairs = [socket.socketpair(), socket.socketpair()]
        for end in (end for pair in pairs for end in pair):
            sockets.enter_context(end)
        far = [pair[1].fileno() for pair in pairs]
        config = _config(Path(directory), options, kernel)
        wiring = argv.Wiring(qmp=far[0], agent=far[1])
        usual = argv.build(program, config, probe.accelerator(), wiring, firmware=probe.firmware(program))
        port = pairs[1][0]
        port.settimeout(patience)
        before = time.perf_counter()
        process = VMMProcess(change(usual), far, config.directory / argv.PID_FILE)
        try:
            answer = _answer(port)
            seconds = time.perf_counter() - before
            if answer != b"x":
                raise NoAnswerError((process.messages.text() + process.console.text())[-600:])
            port.settimeout(None)
            yield Booted(seconds, _cpu_seconds(process.pids[0]), port)
        finally:
            process.kill()
            while process.returncode is None:
                time.sleep(0.005)


def _answer(port: socket.socket) -> bytes:
    try:
        return port.recv(1)
    except TimeoutError:
        return b""


def _cpu_seconds(pid: int) -> float:
    threads = Path("/proc", str(pid), "task").glob("*/schedstat")
    return sum(int(path.read_text().split()[0]) for path in threads) / 1e9


def boot_seconds(change: Change = list) -> float:
    """Seconds from starting QEMU to the first byte from the guest."""
    with booted(change) as machine:
        return machine.seconds


def plain(arguments: list[str]) -> list[str]:
    """The same command line without our choice of board, processor and kernel options."""
    changed = list(arguments)
    for option, value in (("-machine", "q35"), ("-cpu", "max"), ("-append", "console=ttyS0 quiet panic=-1")):
        changed[changed.index(option) + 1] = value
    return changed
