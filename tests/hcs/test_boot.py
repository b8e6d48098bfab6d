"""From a document through the bridge to a machine in QEMU, to the agent's first words, and to an end of each kind."""

import contextlib
import copy
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hcs.bridge import Bridge
from hcs.conftest import BASE, until
from hcs.machine import AGENT_SERVICE
from propolis.agent.session import Session
from propolis.disk.writable import make_writable
from propolis.guest import cmdline
from propolis.guest.initramfs import boot_files
from propolis.guest.kernel import find_kernel
from propolis.host.directories import cache_directory
from propolis.spec import Architecture, DiskFormat, InitConfig, Process

pytestmark = pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="QEMU is not installed")

CONTROLLER = "df6d0690-79e5-55b6-a5ec-c1e2f77f580a"


def lives(pid):
    """Whether the process runs; one that only waits to be reaped does not."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@pytest.fixture(scope="session")
def plan():
    """A kernel and an initramfs."""
    return boot_files(find_kernel(cache_directory(), Architecture.X86_64))


@pytest.fixture
def bridge(core, tmp_path, monkeypatch):
    (tmp_path / "sockets").mkdir()
    (tmp_path / "machines").mkdir()
    with Bridge(tmp_path / "machines", hvsockets=tmp_path / "sockets") as bridge:
        monkeypatch.setenv("PROPOLIS_HCS_BRIDGE", str(bridge.port))
        yield bridge
        pids = bridge.processes
    monkeypatch.delenv("PROPOLIS_HCS_BRIDGE", raising=False)
    assert not any(lives(pid) for pid in pids)
    assert list((tmp_path / "machines").iterdir()) == []


@pytest.fixture
def listener(tmp_path, vm_id):
    """The host's end of the agent's service, published as the rig does it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        (tmp_path / "sockets" / f"{vm_id}.{AGENT_SERVICE}").write_text(str(server.getsockname()[1]))
        yield server


@pytest.fixture
def machine(core, bridge, plan, tmp_path, vm_id):
    """A document of a machine whose init waits for the host, with everything granted."""
    kernel, initramfs = plan
    init = InitConfig(process=Process(argv=("/bin/true",)), hostname="box", layers=0)
    disk = tmp_path / "disk.vhdx"
    make_writable(disk, DiskFormat.VHDX, {".propolis_init.json": json.dumps(init.to_json()).encode()})
    for path in (kernel, initramfs, disk):
        assert core.grant(vm_id, path) == 0
    document = copy.deepcopy(BASE)
    document["VirtualMachine"]["Chipset"]["LinuxKernelDirect"] = {
        "KernelFilePath": str(kernel),
        "InitRdPath": str(initramfs),
        "KernelCmdLine": cmdline.build(Architecture.X86_64, layers=0) + " pci=off 8250_core.nr_uarts=0",
    }
    devices = document["VirtualMachine"]["Devices"]
    devices["Scsi"][CONTROLLER]["Attachments"]["0"] = {"Type": "VirtualDisk", "Path": str(disk)}
    devices["ComPorts"] = {"0": {"NamedPipe": str(tmp_path / "com1")}}
    return document


@pytest.fixture
def console(tmp_path):
    """What the machine's serial port said so far."""
    said = bytearray()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "com1"))
        server.listen()

        def read():
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    while data := connection.recv(65536):
                        said.extend(data)

        threading.Thread(target=read, daemon=True).start()
        yield said


def first_words(listener):
    """Accept the agent and take its greeting."""
    connection, _ = listener.accept()
    connection.settimeout(30)
    session, events = Session(), []
    while not events:
        events += session.receive(connection.recv(65536))
    return connection, events[0]


def test_hello_of_the_agent_and_each_state(core, bridge, machine, listener, console, vm_id):
    system, result = core.create(vm_id, machine)
    assert result.code == 0, result
    told = []
    assert core.listen(system, lambda kind, text: told.append((kind, json.loads(text)))) == 0
    assert core.start(system).code == 0
    (pid,) = bridge.processes
    connection, hello = first_words(listener)
    assert type(hello).__name__ == "Hello"
    assert core.do("HcsPauseComputeSystem", system, None).code == 0
    assert [entry["State"] for entry in core.enumerate({"Owners": ["propolis"]}).document] == ["Paused"]
    assert core.do("HcsResumeComputeSystem", system, None).code == 0
    assert core.terminate(system).code == 0
    assert core.wait_for_exit(system).document["ExitType"] == "ForcedExit"
    with connection:
        while connection.recv(65536):
            pass
    assert not lives(pid)
    until(lambda: [kind for kind, _ in told] == [1])
    core.close(system)
    assert bridge.systems == {}


def test_a_guest_that_powers_off(core, bridge, machine, console, vm_id):
    """With a disk too few, init says so and powers off."""
    direct = machine["VirtualMachine"]["Chipset"]["LinuxKernelDirect"]
    direct["KernelCmdLine"] = direct["KernelCmdLine"].replace("layers=0", "layers=1")
    system, _ = core.create(vm_id, machine)
    assert core.start(system).code == 0
    assert core.wait_for_exit(system, 60_000).document == {"Status": 0, "ExitType": "GracefulExit"}
    until(lambda: b"disks appeared" in console)
    core.close(system)


def test_a_guest_that_panics(core, bridge, machine, console, vm_id):
    direct = machine["VirtualMachine"]["Chipset"]["LinuxKernelDirect"]
    direct["KernelCmdLine"] += " rdinit=/none root=/dev/none"
    system, _ = core.create(vm_id, machine)
    told = []
    assert core.listen(system, lambda kind, text: told.append((kind, json.loads(text)))) == 0
    assert core.start(system).code == 0
    assert core.wait_for_exit(system, 60_000).document["ExitType"] == "UnexpectedExit"
    until(lambda: len(told) == 3)
    core.close(system)
    assert [kind for kind, _ in told] == [2, 3, 1]
    assert "Kernel panic" in told[1][1]["CrashLog"]


def test_a_disk_that_is_in_use(core, bridge, machine, tmp_path, vm_id):
    system, _ = core.create(vm_id, machine)
    assert core.start(system).code == 0
    second = "0e8d3a52-0000-4000-8000-000000000001"
    direct = machine["VirtualMachine"]["Chipset"]["LinuxKernelDirect"]
    for path in (direct["KernelFilePath"], direct["InitRdPath"], tmp_path / "disk.vhdx"):
        assert core.grant(second, path) == 0
    other, _ = core.create(second, machine)
    result = core.start(other)
    assert (result.code, "lock" in result.message) == (0x80070020, True), result
    for handle in (system, other):
        core.close(handle)


def test_disks_come_and_go(core, bridge, machine, listener, tmp_path, vm_id):
    system, _ = core.create(vm_id, machine)
    assert core.start(system).code == 0
    connection, _ = first_words(listener)
    path = tmp_path / "more.vhd"
    make_writable(path, DiskFormat.VHD, {}, size=16 << 20)
    assert core.grant(vm_id, path) == 0
    place = f"VirtualMachine/Devices/Scsi/{CONTROLLER}/Attachments/7"
    settings = {"Type": "VirtualDisk", "Path": str(path), "ReadOnly": True}
    add = {"ResourcePath": place, "RequestType": "Add", "Settings": settings}
    for _ in range(2):
        assert core.modify(system, add).code == 0
        assert core.modify(system, {"ResourcePath": place, "RequestType": "Remove"}).code == 0
    first = {"ResourcePath": place[:-1] + "0", "RequestType": "Remove"}
    assert core.modify(system, first).code == 0
    connection.close()
    core.close(system)


OWNER = """
import json, os, sys, time
sys.path.insert(0, {tests!r})
from hcs.computecore import ComputeCore
core = ComputeCore({library!r})
system, result = core.create({vm_id!r}, json.loads({document!r}))
assert result.code == 0, result
assert core.start(system).code == 0
print("runs", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("dies_with_its_owner", [True, False])
def test_an_owner_that_is_killed(core, bridge, machine, library, vm_id, dies_with_its_owner):
    machine["ShouldTerminateOnLastHandleClosed"] = dies_with_its_owner
    tests = str(Path(__file__).parents[1])
    code = OWNER.format(tests=tests, library=str(library), vm_id=vm_id, document=json.dumps(machine))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=dict(os.environ)) as owner:
        assert owner.stdout.readline() == b"runs\n"
        (pid,) = bridge.processes
        owner.send_signal(signal.SIGKILL)
    if dies_with_its_owner:
        until(lambda: not bridge.systems)
    if not dies_with_its_owner:
        time.sleep(0.3)
        assert [entry["Id"] for entry in core.enumerate({"Owners": ["propolis"]}).document] == [vm_id]
        code, system = core.open(vm_id)
        assert code == 0
        assert core.properties(system).document["State"] == "Running"
        assert core.terminate(system).code == 0
        core.close(system)
    assert bridge.systems == {}
    assert not lives(pid)


def test_grants_outlive_their_process(core, bridge, machine, vm_id):
    granted = [path for owner, path in bridge.grants if owner == vm_id]
    assert len(granted) == 3
    for path in granted:
        assert core.revoke(vm_id, path) == 0
    assert bridge.grants == []


def test_a_bridge_that_is_killed_takes_its_machines_along(core, machine, plan, tmp_path, vm_id, monkeypatch):
    """The service's own death: whoever holds a system is told, and no QEMU stays."""
    port = tmp_path / "port"
    command = [sys.executable, Path(__file__).with_name("bridge.py"), "--port-file", port]
    command += ["--hvsockets", tmp_path / "sockets"]
    # what a killed bridge leaves of its directories lies there
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as process:
        until(port.exists)
        monkeypatch.setenv("PROPOLIS_HCS_BRIDGE", port.read_text())
        direct = machine["VirtualMachine"]["Chipset"]["LinuxKernelDirect"]
        for path in (direct["KernelFilePath"], direct["InitRdPath"], tmp_path / "disk.vhdx"):
            assert core.grant(vm_id, path) == 0
        system, _ = core.create(vm_id, machine)
        told = []
        assert core.listen(system, lambda kind, _text: told.append(kind)) == 0
        assert core.start(system).code == 0
        qemu = _children_named(f"propolis-{vm_id}")
        assert len(qemu) == 1
        process.send_signal(signal.SIGKILL)
    assert core.wait_for_exit(system).code == 0x8037011E
    until(lambda: told == [0x02000000])
    core.close(system)
    until(lambda: not _children_named(f"propolis-{vm_id}"))
    monkeypatch.delenv("PROPOLIS_HCS_BRIDGE")


def _children_named(word):
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            arguments = entry.read_bytes().split(b"\0")
            if word.encode() in arguments and b"qemu" in arguments[0]:
                found.append(entry.parent.name)
    return found
