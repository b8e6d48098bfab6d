import json
from pathlib import Path, PurePosixPath

import pytest

from propolis.hypervisor.qemu.argv import KVM, TCG, Wiring, build
from propolis.spec import BootPlan, Disk, DiskFormat, VMConfig

BINARY = PurePosixPath("/usr/bin/qemu-system-x86_64")
FIRMWARE = PurePosixPath("/usr/share/qemu/qboot.rom")
GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "qemu"


def config(**changes):
    values = {
        "id": "0123456789ab",
        "boot": BootPlan(
            kernel=PurePosixPath("/k/vmlinuz"),
            initramfs=PurePosixPath("/k/initramfs"),
            cmdline="quiet propolis.layers=2",
        ),
        "disks": (
            Disk(path=PurePosixPath("/d/base")),
            Disk(path=PurePosixPath("/d/top,with comma"), format=DiskFormat.VHD),
            Disk(path=PurePosixPath("/m/machine.raw"), read_only=False),
        ),
        "cpus": 2,
        "memory": 512 << 20,
        "directory": PurePosixPath("/m"),
    }
    return VMConfig(**(values | changes))


@pytest.mark.parametrize(("name", "accelerator"), [("tcg", TCG), ("kvm", KVM)])
def test_the_whole_command_line_is_as_reviewed(name, accelerator):
    argv = build(BINARY, config(), accelerator, Wiring(qmp=7, agent=9), firmware=FIRMWARE)
    assert argv == json.loads((GOLDEN / f"{name}.json").read_text())


def test_a_path_with_commas_stays_one_path():
    argv = build(Path("qemu"), config(), TCG, Wiring(qmp=7, agent=9))
    node = json.loads(argv[[i for i, part in enumerate(argv) if part == "-blockdev"][1] + 1])
    assert node["file"]["filename"] == "/d/top,with comma"


def test_only_the_machines_own_disk_is_writable():
    argv = build(Path("qemu"), config(), TCG, Wiring(qmp=7, agent=9))
    nodes = [json.loads(argv[i + 1]) for i, part in enumerate(argv) if part == "-blockdev"]
    assert [node["read-only"] for node in nodes] == [True, True, False]


def test_luns_follow_the_order_of_the_disks():
    argv = build(Path("qemu"), config(), TCG, Wiring(qmp=7, agent=9))
    devices = [part for part in argv if part.startswith("scsi-hd")]
    assert [f"lun={lun},drive=disk{lun}" in device for lun, device in enumerate(devices)] == [True] * 3


def test_memory_is_given_in_mebibytes():
    argv = build(Path("qemu"), config(memory=(1 << 30) + 5), TCG, Wiring(qmp=7, agent=9))
    assert argv[argv.index("-m") + 1] == "1024M"
