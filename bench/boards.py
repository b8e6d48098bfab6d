"""`make bench-boards`: what boards, processor models, firmware and kernel options cost until a bare init answers.

Usage: boards.py [--runs N] [--kernel FILE] [--map System.map] [WAY...]. Ways are run in turn; the figure to trust on a
busy host is QEMU's processor seconds. With `--map` the kernel's initcalls of more than 2 ms are named as well, by the
symbols of that file. Nothing is asserted; `docs/decisions.md` says what came of it.
"""

import argparse
import os
import re
import statistics
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

import floor

PATIENCE = 8.0
"""Seconds after which a way counts as hung: nine times of what a boot takes."""
_TOLD_MICROSECONDS = 2000
_INITCALL = re.compile(r"initcall (?:0x)?([0-9a-f]{16}|\S+?)(?:\+0x\S+)? returned -?\d+ after (\d+) usecs")


def replaced(option: str, value: str | None) -> floor.Change:
    """The same command line with another value of one option; without the option for None."""

    def change(arguments: list[str]) -> list[str]:
        at = arguments.index(option)
        return [*arguments[:at], *(() if value is None else (option, value)), *arguments[at + 2 :]]

    return change


def extended(option: str, more: str) -> floor.Change:
    """The same command line with something added to the value of one option."""
    return lambda arguments: replaced(option, f"{arguments[arguments.index(option) + 1]}{more}")(arguments)


def without(words: str) -> floor.Change:
    """The same kernel command line without these words."""

    def change(arguments: list[str]) -> list[str]:
        line = arguments[arguments.index("-append") + 1].split()
        return replaced("-append", " ".join(word for word in line if word not in words.split()))(arguments)

    return change


def rewritten(old: str, new: str) -> floor.Change:
    """The same command line with a piece of one argument replaced."""
    return lambda arguments: [argument.replace(old, new) for argument in arguments]


def with_more(*words: str) -> floor.Change:
    """The same command line with more at its end."""
    return lambda arguments: [*arguments, *words]


def chain(*changes: floor.Change) -> floor.Change:
    """One change after the other."""

    def change(arguments: list[str]) -> list[str]:
        for one in changes:
            arguments = one(arguments)
        return arguments

    return change


def microvm(options: str) -> floor.Change:
    """QEMU's board without PCI: virtio over MMIO, told to the kernel on its command line or by ACPI."""
    return chain(
        replaced("-machine", f"microvm,{options}"),
        lambda arguments: [
            argument.replace("-pci,", "-device,").replace(",ioeventfd=off", "") for argument in arguments
        ],
    )


_Q35 = "q35,usb=off,smbus=off,sata=off,vmport=off,graphics=off"
_TICK = "noapictimer noreplace-smp"

WAYS: dict[str, tuple[floor.Change, str]] = {
    "as machines are started": (list, ""),
    "board: q35 as it is": (replaced("-machine", "q35"), ""),
    "board: pc (i440fx)": (replaced("-machine", "pc,usb=off,smbus=off,vmport=off,hpet=on,graphics=off"), ""),
    "board: q35 without HPET, APIC timer calibrated": (
        chain(replaced("-machine", f"{_Q35},hpet=off"), without(_TICK)),
        "",
    ),
    "board: microvm, ACPI": (chain(microvm("acpi=on,rtc=on"), without("noapictimer")), ""),
    "board: microvm, no ACPI": (
        chain(microvm("acpi=off,rtc=on,pit=on,pic=on,isa-serial=on"), without("noapictimer")),
        "",
    ),
    "board: q35 without PCI hot-plug, S3 and S4 in ACPI": (
        chain(
            with_more("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"),
            with_more("-global", "ICH9-LPC.disable_s3=1"),
            with_more("-global", "ICH9-LPC.disable_s4=1"),
        ),
        "",
    ),
    "firmware: SeaBIOS": (replaced("-bios", None), ""),
    "cpu: max, with ERMS and FSRM": (replaced("-cpu", "max"), ""),
    "cpu: qemu64": (replaced("-cpu", "qemu64"), ""),
    "cpu: Nehalem": (replaced("-cpu", "Nehalem"), ""),
    "cpu: Haswell-noTSX": (replaced("-cpu", "Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid,-avx2,-avx"), ""),
    "cpu: max without SMAP, SMEP, UMIP": (extended("-cpu", ",-smap,-smep,-umip"), ""),
    "cpu: max without PKU, LA57, AVX": (extended("-cpu", ",-pku,-la57,-avx,-avx2"), ""),
    "cpu: max, too old a K8 for rep movsq": (extended("-cpu", ",family=15,model=4,stepping=0"), ""),
    "kernel: it looks for disks itself, on 256 targets": (without("scsi_mod.scan=manual"), ""),
    "kernel: without noapictimer": (without("noapictimer"), ""),
    "kernel: without noreplace-smp": (without("noreplace-smp"), ""),
    "kernel: mitigations=off": (list, "mitigations=off"),
    "kernel: tsc=reliable": (list, "tsc=reliable"),
    "kernel: without no_timer_check": (without("no_timer_check"), ""),
    "kernel: rcupdate.rcu_expedited=1": (list, "rcupdate.rcu_expedited=1"),
    "kernel: init_on_alloc=0": (list, "init_on_alloc=0"),
    "kernel: pci=nommconf": (list, "pci=nommconf"),
    "kernel: pci=lastbus=0": (list, "pci=lastbus=0"),
    "kernel: acpi=off": (list, "acpi=off"),
    "kernel: acpi=noirq": (list, "acpi=noirq"),
    "kernel: pci=noacpi": (list, "pci=noacpi"),
    "kernel: nosmp": (list, "nosmp"),
    "kernel: tsc_early_khz as on the reference machine": (list, "tsc_early_khz=2594114"),
    "kernel: 8250.nr_uarts=1": (list, "8250.nr_uarts=1"),
    "kernel: no console": (lambda arguments: [word.replace("console=ttyS0 ", "") for word in arguments], ""),
    "kernel: rodata=off": (list, "rodata=off"),
    "kernel: cgroup_disable=memory": (list, "cgroup_disable=memory"),
    "devices: a thread hears their notifications": (rewritten(",ioeventfd=off", ""), ""),
    "tb-size: 32": (rewritten("tb-size=64", "tb-size=32"), ""),
    "tb-size: 256": (rewritten("tb-size=64", "tb-size=256"), ""),
    "accel: one thread": (extended("-accel", ",thread=single"), ""),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--kernel", type=Path)
    parser.add_argument("--map", type=Path)
    parser.add_argument("way", nargs="*", help="only ways that begin so")
    given = parser.parse_args()
    usual, *others = WAYS
    chosen = [usual, *(way for way in others if not given.way or way.startswith(tuple(given.way)))]
    taken: dict[str, list[floor.Booted | None]] = {way: [] for way in chosen}
    for _ in range(given.runs):
        for way in chosen:
            taken[way].append(once(way, given.kernel))
    report(taken)
    if given.map:
        initcalls(given.kernel, symbols(given.map))


def once(way: str, kernel: Path | None) -> floor.Booted | None:
    """One boot; None when nobody answered."""
    change, options = WAYS[way]
    try:
        with floor.booted(change, options=options, kernel=kernel, patience=PATIENCE) as machine:
            return machine
    except floor.NoAnswerError:
        return None


def report(taken: dict[str, list[floor.Booted | None]]) -> None:
    """Print the table, differences to the usual way beside it; the least is what noise has added least to."""
    print(f"load {os.getloadavg()[0]:.1f}")
    print(f"{'':<50} {'CPU s':>7} {'more':>7} {'least':>7} {'more':>7} {'wall s':>7} {'least':>7}  answered")
    usual: list[float] | None = None
    for way, boots in taken.items():
        good = [boot for boot in boots if boot is not None]
        if not good:
            print(f"{way:<50} {'':>47}  0 of {len(boots)}")
            continue
        cpu, wall = ([getattr(boot, key) for boot in good] for key in ("cpu", "seconds"))
        figures = [statistics.median(cpu), min(cpu), statistics.median(wall), min(wall)]
        usual = usual or figures
        print(
            f"{way:<50} {figures[0]:7.3f} {figures[0] - usual[0]:+7.3f} {figures[1]:7.3f} {figures[1] - usual[1]:+7.3f}"
            f" {figures[2]:7.3f} {figures[3]:7.3f}  {len(good)} of {len(boots)}",
            flush=True,
        )


def symbols(path: Path) -> Callable[[str], str]:
    """Looks names of addresses up."""
    table = sorted((int(line.split()[0], 16), line.split()[2]) for line in path.read_text().splitlines())
    addresses = [address for address, _ in table]

    def name(text: str) -> str:
        try:
            return table[bisect_right(addresses, int(text, 16)) - 1][1]
        except ValueError:
            return text

    return name


def initcalls(kernel: Path | None, name: Callable[[str], str], runs: int = 5) -> None:
    """Print the initcalls that take long, as medians; the guest's own clock, which stops for nobody."""
    taken: dict[str, list[int]] = {}
    for _ in range(runs):
        with floor.booted(options="initcall_debug log_buf_len=4M", kernel=kernel) as machine:
            for address, microseconds in _INITCALL.findall(machine.log()):
                taken.setdefault(name(address), []).append(int(microseconds))
    medians = {call: statistics.median(values) for call, values in taken.items()}
    told = {call: value for call, value in medians.items() if value >= _TOLD_MICROSECONDS}
    print(f"\n{len(medians)} initcalls, {sum(medians.values()) / 1000:.0f} ms; those above 2 ms:")
    for call, value in sorted(told.items(), key=lambda item: -item[1]):
        print(f"{call:<50} {value / 1000:7.1f} ms")


if __name__ == "__main__":
    main()
