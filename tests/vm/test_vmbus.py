"""The guest's side of Hyper-V, in a machine that looks like one: agent over vsock, disks by VMBus, 9P over vsock.

Not shown here: the hv_* drivers themselves, and hvsocket under AF_VSOCK. Both need Hyper-V.
"""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import propolis
from propolis.errors import BootFailed, FileError, InvalidArgument
from propolis.guest import cpio, elf
from propolis.guest.binaries import init_path
from propolis.guest.modules import ModuleTree, resolve
from propolis.spec import Architecture

ROOT = Path(__file__).resolve().parents[2]
DIOD = Path("/usr/sbin/diod")
X86 = Architecture.X86_64


@pytest.fixture(scope="module")
def kernel(kernel_root):
    """The distribution's kernel: it has vsock's loopback, which the tuned kernel does not need."""
    (image,) = (kernel_root / "boot").glob("vmlinuz-*")
    return image


@pytest.fixture(scope="module")
def disguise(kernel, tmp_path_factory):
    """Our stand-in for init, and the archive with what it needs: the real init, loopback modules, diod."""
    pytest.importorskip("ziglang", reason="compiling needs the package ziglang")
    if not DIOD.exists():
        pytest.skip("not installed: diod")
    directory = tmp_path_factory.mktemp("disguise")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-std=c11", "-D_GNU_SOURCE"]
    command += ["-Wall", "-Wextra", "-Werror", "-O1", "-static", f"-I{ROOT / 'guest'}"]
    source = Path(__file__).with_name("vmbus_init.c")
    subprocess.run([*command, "-o", directory / f"init-{X86}", source], check=True)

    files = {"real/init": (init_path(X86).read_bytes(), 0o755)}
    tree = ModuleTree.scan(kernel.parent.parent / "lib/modules" / kernel.name.removeprefix("vmlinuz-"))
    modules = resolve(["vsock_loopback"], tree.builtin, tree.find).modules
    files |= {f"standin/{name}.ko": (elf.without_signature(data), 0o644) for name, data in modules.items()}
    files["standin/load"] = ("".join(f"{name}.ko\n" for name in modules).encode(), 0o644)
    # the kernel attaches as nobody before it does as whoever asks; diod wants to know both
    files["etc/passwd"] = (b"root:x:0:0::/:/\nnobody:x:65534:65534::/:/\n", 0o644)
    files["etc/group"] = (b"root:x:0:\nnogroup:x:65534:\n", 0o644)
    for path in (DIOD, *_libraries(DIOD)):
        files[str(path).lstrip("/")] = (path.read_bytes(), 0o755)
    parents = sorted({str(parent) for path in files for parent in Path(path).parents} - {"."})
    members = [cpio.directory(path) for path in parents]
    members += [cpio.file(path, data, mode) for path, (data, mode) in files.items()]
    (directory / "initrd").write_bytes(cpio.archive(members))
    return directory


def _libraries(program):
    lines = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout.splitlines()
    words = [word for line in lines for word in line.split() if word.startswith("/")]
    return [Path(word) for word in words]


@pytest.fixture
def options(kernel, disguise, monkeypatch):
    """What makes a machine one with a VMBus."""
    monkeypatch.setenv("PROPOLIS_GUEST_INIT_DIR", str(disguise))
    monkeypatch.setenv("PROPOLIS_CACHE", str(disguise / "cache"))
    return {"kernel": kernel, "initrd": disguise / "initrd", "backend": "qemu", "boot_timeout": 60}


def test_a_workload_runs_over_vsock(busybox_image, options):
    """The virtio-serial port is in other hands, so there is no other way; and the host begins to listen late."""
    data = bytes(range(256)) * 4096
    done = propolis.run(busybox_image, ["sh", "-c", "cat; echo err >&2; exit 5"], input=data, **options)
    assert (done.exit_code, done.stdout, done.stderr) == (5, data, b"err\n")


def test_a_host_that_never_listens_is_told(busybox_image, options, disguise, tmp_path):
    silent = tmp_path / "initrd"
    silent.write_bytes((disguise / "initrd").read_bytes() + cpio.archive([cpio.file("standin/silent", b"")]))
    with pytest.raises(BootFailed) as caught:
        propolis.run(busybox_image, ["true"], **options | {"initrd": silent})
    assert "propolis-init: the host does not listen at vsock port 1024: Connection reset" in caught.value.hint


def test_the_modules_for_it_are_loaded_and_those_of_virtio_shares_are_not_needed(busybox_image, options, tmp_path):
    (tmp_path / "d").mkdir()
    with propolis.Machine.start(busybox_image, ["sleep", "600"], volumes={tmp_path / "d": "/d"}, **options) as machine:
        loaded = machine.exec(["cut", "-d", " ", "-f1", "/proc/modules"]).text.split()
        assert {"scsi_transport_fc", "vsock", "9pnet_fd"} <= set(loaded)
        mounted = machine.exec(["grep", " /d ", "/proc/mounts"]).text
    assert all(word in mounted for word in ("share0 /d 9p", "trans=fd", "aname=share0", "msize=65536"))


def test_directories_and_files_of_the_host_are_seen(busybox_image, options, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(f"from {name}\n")
    (tmp_path / "single").write_text("alone\n")
    volumes = [f"{tmp_path / 'one'}:/one", f"{tmp_path / 'two'}:/two:ro", f"{tmp_path / 'single'}:/etc/single"]
    script = (
        "cat /one/file /two/file /etc/single; mkdir /one/d; mv /one/file /one/d/moved;"
        "head -c 3000000 /dev/zero > /one/big;"
        "echo changed > /etc/single; echo no > /two/file; ls /etc | grep -c single"
    )
    done = propolis.run(busybox_image, ["sh", "-c", script], volumes=volumes, **options)
    assert done.stdout == b"from one\nfrom two\nalone\n1\n", done.stderr
    assert b"Read-only file system" in done.stderr
    assert (tmp_path / "one/d/moved").read_text() == "from one\n"
    assert (tmp_path / "one/big").stat().st_size == 3_000_000
    assert (tmp_path / "two/file").read_text() == "from two\n"
    assert (tmp_path / "single").read_text() == "changed\n"


@pytest.fixture
def hot(hyperv, options, tmp_path):
    """A machine of the Hyper-V backend that looks like one from inside too, and a directory for it."""
    (tmp_path / "shared dir").mkdir()
    (tmp_path / "shared dir" / "file").write_text("from the host\n")

    return hyperv, options | {"backend": "hyperv"}, tmp_path / "shared dir"


def test_a_directory_that_the_host_shows_late_is_waited_for(busybox_image, hot, monkeypatch):
    """Its name is refused until then, as the guest comes to its mounts before the host is done with them."""
    _, options, shared = hot
    monkeypatch.setenv("PROPOLIS_HCS_FAULTS", json.dumps({"HcsModifyComputeSystem": {"delay_ms": 4000}}))
    done = propolis.run(busybox_image, ["cat", "/m/file"], volumes={shared: "/m"}, **options)
    assert (done.exit_code, done.stdout) == (0, b"from the host\n"), done.stderr


@pytest.mark.parametrize("confined", [{}, {"private_pids": True, "privileged": True}])
def test_shares_come_and_go_while_it_runs(busybox_image, hot, confined):
    bridge, options, shared = hot
    (shared.parent / "single").write_text("alone\n")
    with propolis.Machine.start(busybox_image, ["sleep", "600"], **options, **confined) as machine:
        (system,) = bridge.systems.values()

        def served():
            return [share["Path"] for share in system.document["VirtualMachine"]["Devices"]["Plan9"]["Shares"]]

        def shell(line):
            return machine.exec(["sh", "-c", line])

        machine.mount(f"{shared}:/m/place")
        assert shell("cat /m/place/file; echo back > /m/place/answer").text == "from the host\n"
        assert (shared / "answer").read_text() == "back\n"
        (shared / "later").write_text("seen at once")
        assert shell("cat /m/place/later").text == "seen at once"

        shell("ln -s /m /link")
        machine.mount(f"{shared}:/link/read:ro")
        assert shell("cat /m/read/file").text == "from the host\n"
        assert b"Read-only" in shell("echo x > /m/read/file").stderr
        assert b"Read-only" in shell("mount -o remount,rw /m/read; echo x > /m/read/file").stderr
        machine.mount(f"{shared.parent / 'single'}:/etc/single")
        assert shell("cat /etc/single; echo changed > /etc/single; ls -A /m/place").text.split() == [
            *("alone", "answer", "file", "later")
        ]
        assert (shared.parent / "single").read_text() == "changed\n"
        assert len(served()) == 3

        with pytest.raises(InvalidArgument, match="already"):
            machine.mount(f"{shared}:/m/place")
        user = machine.open(["sh", "-c", "cd /m/place; echo; exec sleep 600"])
        assert user.stdout.receive() == b"\n"
        with pytest.raises(FileError, match="busy") as caught:
            machine.unmount("/m/place")
        assert caught.value.errno == errno.EBUSY
        assert shell("cat /m/place/file").text == "from the host\n"
        user.signal("KILL")
        user.wait()
        for place in ("/m/place", "/link/read", "/etc/single"):
            machine.unmount(place)
        assert served() == []
        assert shell("ls -A /m/place /m/read; cat /etc/single; grep -c 9p /proc/mounts").text.split() == [
            *("/m/place:", "/m/read:", "0")
        ]
        assert sorted(path.name for path in shared.iterdir()) == ["answer", "file", "later"]
        assert [path.name for path in Path(os.environ["PROPOLIS_DATA"], "machines", machine.id).glob("later*")] == []
        with pytest.raises(InvalidArgument, match="nothing was mounted"):
            machine.unmount("/m/place")
        machine.mount(f"{shared}:/m/place")  # until it ends
        assert shell("cat /m/place/file").text == "from the host\n"


def test_a_mount_that_the_machine_refuses_leaves_nothing(busybox_image, hot):
    bridge, options, shared = hot
    with propolis.Machine.start(busybox_image, ["sleep", "600"], read_only=True, **options) as machine:
        (system,) = bridge.systems.values()
        with pytest.raises(FileError) as caught:
            machine.mount(f"{shared}:/new")
        assert caught.value.errno == errno.ENOENT
        with pytest.raises(FileError, match="Not a directory"):
            machine.mount(f"{shared}:/bin/busybox")
        assert system.document["VirtualMachine"]["Devices"]["Plan9"]["Shares"] == []
        machine.mount(f"{shared}:/tmp")
        assert machine.exec(["cat", "/tmp/file"]).text == "from the host\n"


def test_a_driver_that_finds_no_bus_is_told(busybox_image, options, tmp_path, monkeypatch):
    """ACPI says that there is a VMBus, Hyper-V is not there: what a broken machine looks like."""
    from propolis.hypervisor.qemu import argv

    table = tmp_path / "ssdt.aml"
    table.write_bytes(_ssdt())
    build = argv.build
    monkeypatch.setattr(argv, "build", lambda *a, **k: [*build(*a, **k), "-acpitable", f"file={table}"])
    monkeypatch.delenv("PROPOLIS_GUEST_INIT_DIR")
    with pytest.raises(BootFailed, match="ended before") as caught:
        propolis.run(busybox_image, ["true"], **options | {"initrd": None})
    assert "cannot load kernel module hv_vmbus.ko" in caught.value.hint


def _ssdt() -> bytes:
    """An ACPI table with one device, VMB0, whose _HID is "VMBUS"."""
    hid = b"\x08_HID\x0dVMBUS\0"
    device = b"\x5b\x82" + bytes([1 + 4 + len(hid)]) + b"VMB0" + hid
    scope = b"\x10" + bytes([1 + 5 + len(device)]) + b"\\_SB_" + device
    table = b"SSDT" + (36 + len(scope)).to_bytes(4, "little") + b"\x02\0" + b"PROPOLVMBUS   " + bytes(12) + scope
    return table[:9] + bytes([-sum(table) & 0xFF]) + table[10:]
