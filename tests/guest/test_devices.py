"""How the guest finds its devices, in made-up trees of sysfs: every host, bus and order that we cannot boot here."""

import random
import subprocess

import pytest

from propolis.agent import wire

VMBUS = "devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0004:00/VMBUS:00"
PCI = "devices/pci0000:00/0000:00:02.0"


@pytest.fixture(scope="session")
def program(compiled):
    return compiled("devices_dump", "devices.c", defines=['SYSFS="sys"', 'DEV="dev"'])


class Sysfs:
    """A tree as the kernel shows it: block devices are links to where their hardware is."""

    def __init__(self, root, program):
        self.root, self.program = root, program
        self.sys = root / "sys"
        (self.sys / "class" / "block").mkdir(parents=True)
        (root / "dev").mkdir()

    def block(self, name, device, *, opens=True):
        """A block device; `device` is the directory of what it hangs on."""
        hardware = self.sys / device
        if opens:
            (self.root / "dev" / name).touch()
        (hardware / "block" / name).mkdir(parents=True)
        (hardware / "block" / name / "device").symlink_to(hardware)
        (self.sys / "class" / "block" / name).symlink_to(hardware / "block" / name)

    def scsi(self, name, controller, host, lun, target=0, **options):
        self.block(name, f"{controller}/host{host}/target{host}:0:{target}/{host}:0:{target}:{lun}", **options)

    def file(self, path, text=""):
        (self.sys / path).parent.mkdir(parents=True, exist_ok=True)
        (self.sys / path).write_text(text)

    def run(self, *arguments):
        done = subprocess.run(
            [self.program, *map(str, arguments)], cwd=self.root, capture_output=True, text=True, check=False
        )
        assert done.returncode in (0, 3), done.stderr
        return done

    def ask(self, *arguments):
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()


@pytest.fixture
def sysfs(tmp_path, program):
    return Sysfs(tmp_path, program)


def _names(count):
    """sda, sdb ... sdaa: the kernel's names, in an order that says nothing."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [f"sd{first}{second}" for first in ("", *letters) for second in letters]
    return random.Random(count).sample(names, count)


@pytest.mark.parametrize("count", [1, 3, 64, 65, 70, 200, 256])
def test_hyperv_disks_come_by_controller_then_lun(sysfs, count):
    names = _names(count)
    hosts = random.Random(7).sample(range(9), len(wire.SCSI_CONTROLLERS))  # whichever was probed first
    for number, name in enumerate(names):
        place, lun = divmod(number, wire.SCSI_LUNS)
        sysfs.scsi(name, f"{VMBUS}/{wire.SCSI_CONTROLLERS[place]}", hosts[place], lun)
    assert sysfs.ask("disks", count) == [f"/dev/{name}" for name in names]


def test_a_controllers_name_is_matched_in_either_case_and_as_a_whole(sysfs):
    sysfs.scsi("sdb", f"{VMBUS}/{wire.SCSI_CONTROLLERS[0].upper()}", 4, 0)
    sysfs.scsi("sda", f"{VMBUS}/x{wire.SCSI_CONTROLLERS[0]}", 0, 0)
    sysfs.scsi("sdc", f"{VMBUS}/{wire.SCSI_CONTROLLERS[0][:-1]}", 1, 0)
    assert sysfs.ask("disks", 1) == ["/dev/sdb"]


def test_disks_that_were_added_later_change_nothing(sysfs):
    for lun, name in enumerate(("sdd", "sdc", "sdb")):
        sysfs.scsi(name, f"{VMBUS}/{wire.SCSI_CONTROLLERS[0]}", 3, lun)
    sysfs.scsi("sda", f"{VMBUS}/{wire.SCSI_CONTROLLERS[1]}", 0, 0)
    assert sysfs.ask("disks", 2) == ["/dev/sdd", "/dev/sdc"]


def test_a_gap_is_waited_for_and_counted(sysfs):
    for number in range(70):
        if number not in (65, 69):
            place, lun = divmod(number, wire.SCSI_LUNS)
            sysfs.scsi(f"sd{number}", f"{VMBUS}/{wire.SCSI_CONTROLLERS[place]}", place, lun)
    done = sysfs.run("disks", 70)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("only 65 of 70 disks appeared")


def test_virtio_disks_are_the_first_run_of_one_controller(sysfs):
    sysfs.scsi("sda", f"{PCI}/virtio1", 2, 0)
    for lun, name in ((0, "sdd"), (1, "sdb"), (2, "sdc"), (300, "sdz")):
        sysfs.scsi(name, f"{PCI}/virtio3", 5, lun if lun < 256 else lun | 0x4000)
    sysfs.scsi("sdy", f"{PCI}/virtio3", 5, 0, target=1)
    assert sysfs.ask("disks", 3) == ["/dev/sdd", "/dev/sdb", "/dev/sdc"]
    assert sysfs.run("disks", 4).stderr.startswith("only 3 of 4 disks")


def test_virtio_block_disks_come_by_their_place_on_the_bus(sysfs):
    for place, name in ((0x0A, "vda"), (0x03, "vdb"), (0x1F, "vdc")):
        sysfs.block(name, f"devices/pci0000:00/0000:00:{place:02x}.0/virtio{place ^ 7}")
    assert sysfs.ask("disks", 3) == ["/dev/vdb", "/dev/vda", "/dev/vdc"]
    assert sysfs.run("disks", 2).returncode == 3  # which two, nobody could tell


def test_what_is_no_disk_is_passed_over(sysfs):
    sysfs.block("sr0", f"{PCI}/virtio1/host0/target0:0:0/0:0:0:0")
    sysfs.block("loop0", "devices/virtual/block")
    (sysfs.sys / "class/block/sda1").mkdir()  # a partition: no device of its own
    sysfs.scsi("sdb", f"{PCI}/virtio2", 1, 0)
    assert sysfs.ask("disks", 1) == ["/dev/sdb"]


def test_no_disk_at_all_is_told(sysfs):
    assert sysfs.run("disks", 2).stderr.startswith("only 0 of 2 disks appeared within 10 s")


@pytest.mark.parametrize(
    ("path", "verdict"),
    [
        ("bus/acpi/devices/VMBUS:00/path", "yes"),
        ("bus/acpi/devices/VMBus:01/path", "yes"),
        ("bus/acpi/devices/MSFT1000:00/path", "yes"),
        ("bus/vmbus/devices/df6d0690-79e5-55b6-a5ec-c1e2f77f580a/id", "yes"),
        ("bus/acpi/devices/MSFT1001:00/path", "no"),
        ("bus/acpi/devices/PNP0A08:00/path", "no"),
        ("bus/vmbus/drivers/hv_sock/bind", "no"),
        ("bus/virtio/devices/virtio0/device", "no"),
    ],
)
def test_hyperv_is_known_by_its_bus(sysfs, path, verdict):
    (sysfs.sys / "bus/vmbus/devices").mkdir(parents=True)  # a kernel with the driver, on whatever host
    sysfs.file(path)
    assert sysfs.ask("vmbus") == [verdict]
    assert sysfs.ask("vsock") == [verdict]


@pytest.mark.parametrize(("number", "verdict"), [("0x0013", "yes"), ("0x0003", "no"), ("", "no")])
def test_virtio_vsock_is_known_by_its_number(sysfs, number, verdict):
    sysfs.file("bus/virtio/devices/virtio0/device", "0x0008\n")
    sysfs.file("bus/virtio/devices/virtio1/device", f"{number}\n")
    assert (sysfs.ask("vsock"), sysfs.ask("vmbus")) == ([verdict], ["no"])


def test_the_port_is_found_by_its_name(sysfs):
    sysfs.file("class/virtio-ports/vport1p1/name", "org.qemu.guest_agent.0\n")
    sysfs.file("class/virtio-ports/vport1p2/name", f"{wire.PORT_NAME}\n")
    sysfs.file("class/virtio-ports/vport1p3/dev", "")  # its name comes later
    assert sysfs.ask("port", wire.PORT_NAME) == ["/dev/vport1p2"]
    assert sysfs.ask("port", f"{wire.PORT_NAME}x") == ["none"]


def test_a_disk_that_is_shown_but_cannot_be_opened_yet_does_not_count(sysfs):
    sysfs.scsi("sda", f"{PCI}/virtio3", 0, 0)
    sysfs.scsi("sdb", f"{PCI}/virtio3", 0, 1, opens=False)
    assert sysfs.run("disks", 2).stderr.startswith("only 1 of 2 disks appeared")
