"""The whole product over the Hyper-V backend: image, VHDX, document, library, boot, agent, exit. QEMU boots."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import propolis
from propolis.errors import BackendError, BootFailed, DeadlineExceeded, MachineLost
from propolis.hypervisor import registry

OWNER = """
import sys
from pathlib import Path
import propolis
from hcs.linux import LinuxPlatform
from propolis.hypervisor import registry
from propolis.hypervisor.hyperv.backend import HypervBackend
library, pipes, hvsockets, image = sys.argv[1:]
platform = LinuxPlatform(Path(library), Path(pipes), hvsockets=Path(hvsockets))
registry._BUILT_IN = {"hyperv": lambda: HypervBackend(platform)}
with propolis.Machine.start(image, ["sleep", "600"], name="web") as machine:
    print(machine.id, flush=True)
    sys.stdin.read()
"""


def test_output_input_and_exit_code(hyperv, busybox_image):
    result = propolis.run(busybox_image, ["sh", "-c", "cat; echo out; echo err >&2; exit 3"], input=b"typed\n")
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"typed\nout\n", b"err\n")


def test_a_machine_is_used_and_stopped(hyperv, busybox_image):
    with propolis.Machine.start(busybox_image, ["sleep", "600"]) as machine:
        assert machine.exec(["echo", "hello"]).text == "hello\n"
        data = os.urandom(3 << 20)
        assert machine.exec(["cat"], input=data).stdout == data
        assert machine.is_alive


def test_mounts_are_shares(hyperv, busybox_image, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "file").write_text("from the host\n")
    volumes = {tmp_path / "shared": "/mnt"}
    result = propolis.run(busybox_image, ["sh", "-c", "cat /mnt/file && echo back > /mnt/answer"], volumes=volumes)
    assert (result.exit_code, result.text) == (0, "from the host\n")
    assert (tmp_path / "shared" / "answer").read_text() == "back\n"


def test_several_runs_in_a_row_leave_nothing(hyperv, busybox_image):
    for number in range(3):
        assert propolis.run(busybox_image, ["sh", "-c", f"exit {number}"]).exit_code == number


def test_a_time_limit_is_kept(hyperv, busybox_image):
    before = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        propolis.run(busybox_image, ["sleep", "600"], timeout=4.0)
    assert time.monotonic() - before < 100


def test_a_machine_that_dies_while_in_use_is_told_at_once(hyperv, busybox_image):
    with propolis.Machine.start(busybox_image, ["sleep", "600"]) as machine:
        (pid,) = hyperv.processes
        killer = threading.Timer(1.0, os.kill, (pid, signal.SIGKILL))
        killer.start()
        before = time.monotonic()
        with pytest.raises(MachineLost):
            machine.exec(["sleep", "60"])
        assert time.monotonic() - before < 50
        while machine.is_alive:  # the connection's end and the machine's are told by different roads
            assert time.monotonic() - before < 50
            time.sleep(0.05)


def test_a_guest_that_never_dials_is_given_up(hyperv, busybox_image, tmp_path, monkeypatch):
    monkeypatch.setenv("PROPOLIS_HCS_FAULTS", '{"guest": "hang"}')
    with pytest.raises(BootFailed, match="did not answer within 2 s"):
        propolis.run(busybox_image, ["true"], boot_timeout=2.0)


def test_a_refused_start_says_why(hyperv, busybox_image, monkeypatch):
    fault = '{"HcsStartComputeSystem": {"hresult": "0x800705AA", "times": 1}}'
    monkeypatch.setenv("PROPOLIS_HCS_FAULTS", fault)
    with pytest.raises(BackendError, match=r"cannot be started: .* not enough resources.*0x800705AA") as caught:
        propolis.run(busybox_image, ["true"])
    assert "--memory" in caught.value.hint


def test_a_machine_that_windows_does_not_end_keeps_its_files_until_it_does(hyperv, busybox_image, monkeypatch):
    platform = registry.create("hyperv")._system()
    pipes = platform.directory.parent / "owner"
    pipes.mkdir()
    command = [sys.executable, "-c", OWNER, platform.path, pipes, platform.hvsockets, busybox_image]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as owner:
        machine_id = owner.stdout.readline().decode().strip()
        directory = Path(os.environ["PROPOLIS_DATA"], "machines", machine_id)
        (system,) = hyperv.systems.values()
        core = platform.library()
        code, handle = core.open_system(system.id)  # or it would end with its owner
        assert code == 0
        owner.kill()
    try:
        monkeypatch.setenv(
            "PROPOLIS_HCS_FAULTS", '{"HcsTerminateComputeSystem": {"hresult": "0x80070005", "times": 1}}'
        )
        assert propolis.run(busybox_image, ["true"], name="web").exit_code == 0
        assert list(directory.glob("*.vhdx"))
        assert propolis.run(busybox_image, ["true"]).exit_code == 0
        assert system.state == "Stopped"
        assert not directory.exists()
    finally:
        core.close_system(handle)
