import json
import uuid
from dataclasses import replace
from pathlib import Path, PureWindowsPath

import pytest

from propolis.errors import BackendUnavailable, Unsupported
from propolis.hypervisor.hyperv import document
from propolis.spec import Architecture, BootPlan, Disk, DiskFormat, Share, VMConfig

GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "hyperv"
SID = "S-1-5-21-1004336348-1177238915-682003330-1001"
PIPE = r"\\.\pipe\propolis-0123456789ab-00112233445566ff"
WINDOWS_11 = 22631


def config(**changes):
    cache = PureWindowsPath(r"C:\Users\Jörg Ä\AppData\Local\propolis\Cache")
    values = {
        "id": "0123456789ab",
        "boot": BootPlan(
            kernel=cache / "kernel" / "vmlinux",
            initramfs=cache / "kernel" / "initramfs",
            cmdline="console=ttyS0 quiet panic=-1 propolis.layers=1",
        ),
        "disks": layers(1),
        "cpus": 2,
        "memory": 512 << 20,
        "directory": PureWindowsPath(r"C:\m"),
    }
    return VMConfig(**(values | changes))


def layers(count):
    """`count` disks, the last of them writable."""
    shared = [
        Disk(path=PureWindowsPath(rf"C:\cache\layers\{index:02}.vhdx"), format=DiskFormat.VHDX)
        for index in range(count - 1)
    ]
    own = Disk(path=PureWindowsPath(r"C:\m\machine.vhdx"), format=DiskFormat.VHDX, read_only=False)
    return (*shared, own)


SHARES = (
    Share(tag="m0", path=PureWindowsPath(r"C:\Users\Jörg Ä\src")),
    Share(tag="m1", path=PureWindowsPath(r"D:\data"), read_only=True),
)
ARM = BootPlan(
    kernel=PureWindowsPath(r"C:\m\kernel"),
    initramfs=PureWindowsPath(r"C:\m\initrd"),
    cmdline="console=ttyAMA0 quiet panic=-1 propolis.layers=0",
    architecture=Architecture.AARCH64,
)


def cases():
    """Each golden file's name, and what it must hold."""
    shapes = {
        "one-disk": (config(), WINDOWS_11),
        "seventy-disks": (config(disks=layers(70)), WINDOWS_11),
        "odd-memory": (config(memory=(513 << 20) + 1, cpus=1), WINDOWS_11),
        "aarch64": (config(boot=ARM), WINDOWS_11),
        "windows-10-1903": (config(), 18362),
    }
    for name, (machine, windows) in shapes.items():
        yield name, document.build(machine, pipe=PIPE, sid=SID, windows=windows)
    yield (
        "modifications",
        [
            document.add_share(SHARES[0], as_user=True),
            document.add_share(SHARES[1], as_user=False),
            document.remove_share("m1"),
            document.add_disk(3, layers(2)[0]),
            document.add_disk(64, layers(1)[0]),
            document.remove_disk(3),
        ],
    )


@pytest.mark.parametrize(("name", "built"), list(cases()), ids=lambda value: value if isinstance(value, str) else "")
def test_the_whole_document_is_as_reviewed(name, built):
    assert built == json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def test_every_golden_file_is_a_case():
    assert {path.stem for path in GOLDEN.glob("*.json")} == {name for name, _ in cases()}


def test_disks_fill_controller_after_controller_in_order():
    disks = layers(256)
    controllers = document.build(config(disks=disks), pipe=PIPE, sid=SID, windows=WINDOWS_11)["VirtualMachine"][
        "Devices"
    ]["Scsi"]
    assert list(controllers) == list(document.CONTROLLERS)
    found = [
        attachment["Path"]
        for controller in controllers.values()
        for _, attachment in sorted(controller["Attachments"].items(), key=lambda item: int(item[0]))
    ]
    assert found == [str(disk.path) for disk in disks]


def test_there_is_no_place_for_a_disk_beyond_the_last():
    with pytest.raises(Unsupported, match="256"):
        document.build(config(disks=layers(257)), pipe=PIPE, sid=SID, windows=WINDOWS_11)


def test_a_windows_without_linux_machines_is_refused_with_its_build():
    with pytest.raises(BackendUnavailable, match=r"17763.*18362") as caught:
        document.build(config(), pipe=PIPE, sid=SID, windows=17763)
    assert "update Windows" in caught.value.hint


def test_the_firmware_is_not_sent_to_two_directories():
    boot = replace(ARM, initramfs=PureWindowsPath(r"C:\elsewhere\initrd"))
    with pytest.raises(Unsupported, match="one directory"):
        document.build(config(boot=boot), pipe=PIPE, sid=SID, windows=WINDOWS_11)


@pytest.mark.parametrize("memory", [1, 2 << 20, (2 << 20) + 1, 511 << 20, 1 << 40])
def test_memory_is_enough_and_goes_in_steps_of_16_mib(memory):
    built = document.build(config(memory=memory), pipe=PIPE, sid=SID, windows=WINDOWS_11)
    size = built["VirtualMachine"]["ComputeTopology"]["Memory"]["SizeInMB"]
    assert size % 16 == 0
    assert memory <= size << 20 < memory + (16 << 20)


def test_a_machines_system_is_always_the_same_and_its_own():
    first, again, other = (document.system_id(name) for name in ("0123456789ab", "0123456789ab", "0123456789ac"))
    assert first == again != other
    assert isinstance(first, uuid.UUID)


def test_the_kernel_is_told_what_only_hyper_v_needs_after_its_own_line():
    line = document.command_line(config(), WINDOWS_11)
    assert line.startswith("console=ttyS0 quiet panic=-1 propolis.layers=1 ")
    assert {"initcall_blacklist=virtio_vsock_init", "pci=off", "nr_cpus=2"} <= set(line.split())
    assert "8250" not in document.command_line(config(boot=ARM), WINDOWS_11)
