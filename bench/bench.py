"""`make bench`: the figures the project promises, as medians with the machine's load beside them.

Never asserted, only printed: read them with the load and the floor in mind. What is compared is measured in turn (A B
A B), in software emulation or whatever this host has, with one processor and 512 MiB. Boots run as a user would run
them, through the `propolis` command.
"""

import compileall
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import floor
import running

import images
import propolis
from propolis.guest.kernel import find_kernel
from propolis.host import system
from propolis.host.directories import cache_directory, data_directory
from propolis.hypervisor.qemu import probe
from propolis.spec import Architecture
from propolis.state.store import MachineStore

PROPOLIS = Path(sys.executable).with_name("propolis")
BOOTS = 9
RUNS = 5


def main() -> None:
    """Measure and print, one line a figure."""
    compileall.compile_dir(propolis.__path__[0], quiet=1)  # as pip does when it installs
    image = images.busybox()
    run(image, "true")  # everything cached from here on
    kernel = find_kernel(cache_directory(), Architecture.X86_64)
    print(f"kernel {kernel.release} ({kernel.source}), {probe.accelerator().accel}, 1 CPU, 512 MiB")
    boots(image)
    running_machine(image)
    ends(image)


def boots(image: str) -> None:
    """From the call to the first output, beside the floor."""
    heading("boot, in turn")
    bare, plain, first, whole = in_turn(
        BOOTS,
        floor.boot_seconds,
        lambda: floor.boot_seconds(floor.plain),
        lambda: first_output(image),
        lambda: run(image, "true"),
    )
    least = show("floor: QEMU's start to a bare init's first byte", "s", bare)
    usual = show("floor on q35 and -cpu max as they are, no options", "s", plain)
    output = show("propolis run: call to first output", "s", first)
    show("  its ratio to the floor", "", [output / least], "<= 1.3")
    show("  its ratio to the floor on q35 as it is", "", [output / usual])
    show("propolis run true: call to exit", "s", whole)


def running_machine(image: str) -> None:
    """What a running machine does, beside the bare machine's port."""
    heading("a running machine; floor: the raw port, without agent or processes")
    with floor.booted() as bare:
        show("floor: round trip of a byte", "ms", [1000 * taken for taken in bare.round_trips(500)])
        out, in_ = in_turn(3, lambda: bare.output_rate() / 1e6, lambda: bare.input_rate() / 1e6)
        show("floor: bytes out of the guest", "MB/s", out)
        show("floor: bytes into the guest", "MB/s", in_)
    with tempfile.TemporaryDirectory(dir=images.CACHE.parent) as scratch:
        for figure in running.figures(image, Path(scratch)):
            show(figure.name, figure.unit, figure.values, figure.asked, tail=figure.tail)


def ends(image: str) -> None:
    """The end of a machine, its size, and what the command costs by itself."""
    heading("other")
    show("stop of a running machine (Machine.stop)", "s", repeated(lambda: stop_seconds(image)), "<= 0.3")
    show("VMM resident memory, 512 MiB guest", "MiB", repeated(lambda: resident_mebibytes(image), 3), "<= 300")
    show("propolis --help, warm", "s", repeated(help_seconds, 9), "<= 0.25")


def heading(text: str) -> None:
    """Print what the next figures are about."""
    print(f"\n{text}\n{'':<58} {'median':>9} {'min':>9} {'max':>9}  asked", flush=True)


def show(name: str, unit: str, values: list[float], asked: str = "", *, tail: bool = False) -> float:
    """Print one figure; with `tail` the 99th percentile stands in place of the greatest. Returns its median."""
    median = statistics.median(values)
    last = statistics.quantiles(values, n=100)[98] if tail else max(values)
    numbers = f"{median:9.3f} {min(values):9.3f} {last:9.3f}{' p99' if tail else '':<4}"
    label = f"{name} [{unit}]" if unit else name
    print(f"{label:<58} {numbers} {asked:<24} (n={len(values)}, load {os.getloadavg()[0]:.1f})", flush=True)
    return median


def in_turn(times: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Each figure several times over, one after the other, so that the host's moods meet all of them."""
    taken = [[measure() for measure in measures] for _ in range(times)]
    return [list(values) for values in zip(*taken, strict=True)]


def repeated(measure: Callable[[], float], times: int = RUNS) -> list[float]:
    """The figure several times over."""
    return [measure() for _ in range(times)]


def run(image: str, *command: str) -> float:
    """Seconds of a whole `propolis run`."""
    before = time.perf_counter()
    subprocess.run([PROPOLIS, "run", "-q", image, *command], check=True)
    return time.perf_counter() - before


def first_output(image: str) -> float:
    """Seconds from the call to the first byte that the workload prints."""
    before = time.perf_counter()
    with subprocess.Popen([PROPOLIS, "run", "-q", image, "echo", "x"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        return time.perf_counter() - before


def help_seconds() -> float:
    """Seconds of `propolis --help`."""
    before = time.perf_counter()
    subprocess.run([PROPOLIS, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - before


def stop_seconds(image: str) -> float:
    """Seconds of `stop` with a workload that ends at SIGTERM."""
    machine = propolis.Machine.start(image, ["sleep", "600"])
    before = time.perf_counter()
    machine.stop()
    return time.perf_counter() - before


def resident_mebibytes(image: str) -> float:
    """Resident memory of the process that is the machine, a second after the workload began."""
    with propolis.Machine.start(image, ["sleep", "600"]) as machine:
        time.sleep(1)
        (pid,) = [record.vmm.pid for record in MachineStore(data_directory()).list() if record.id == machine.id]
        return system.resident_bytes(pid) / (1 << 20)


if __name__ == "__main__":
    main()
