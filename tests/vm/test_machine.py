"""The Python interface against a running machine."""

import os
import shutil
import subprocess
import sys
import time

import anyio
import pytest

import propolis
from propolis.errors import (
    CommandNotExecutable,
    CommandNotFound,
    DeadlineExceeded,
    InvalidArgument,
    MachineLost,
    ProcessError,
)


def test_run_returns_what_the_workload_left(busybox_image):
    result = propolis.run(busybox_image, ["sh", "-c", "cat; echo err >&2; exit 3"], input=b"typed")
    assert result == propolis.Result(exit_code=3, stdout=b"typed", stderr=b"err\n")


def test_exec_takes_after_the_workload(machine):
    assert machine.exec(["true"]).exit_code == 0
    assert machine.exec(["sh", "-c", "exit 9"]).exit_code == 9
    assert machine.exec(["hostname"]).text == "box\n"
    assert machine.exec(["cat"], input=b"x" * 300_000).stdout == b"x" * 300_000
    assert machine.exec(["sh", "-c", "echo $A; pwd; id -u"], env={"A": "b"}, working_dir="/tmp", user="1").text == (
        "b\n/tmp\n1\n"
    )


@pytest.mark.parametrize(
    ("argv", "options", "error"),
    [
        (["no-such"], {}, CommandNotFound),
        (["/etc/passwd"], {}, CommandNotExecutable),
        (["true"], {"user": "nosuch"}, ProcessError),
        ([], {}, InvalidArgument),
        ("ls -l", {}, InvalidArgument),
    ],
)
def test_what_cannot_be_executed_raises(machine, argv, options, error):
    with pytest.raises(error):
        machine.exec(argv, **options)


def test_an_exec_past_its_time_is_killed(machine):
    with pytest.raises(DeadlineExceeded):
        machine.exec(["sh", "-c", "exec sleep 1234"], timeout=0.5)
    deadline = time.monotonic() + 30
    while "sleep 1234" in machine.exec(["ps", "-o", "args"]).text:
        assert time.monotonic() < deadline, "it still runs"


@pytest.mark.skipif(shutil.which("e2fsck") is None, reason="e2fsprogs is not installed")
def test_a_stopped_machine_leaves_its_disk_clean(busybox_image, data_directory, tmp_path):
    kept = tmp_path / "machine.raw"
    with propolis.Machine.start(busybox_image, ["sleep", "3600"]) as machine:
        kept.hardlink_to(data_directory / "machines" / machine.id / "machine.raw")
        assert machine.exec(["sh", "-c", "echo written > /root/file"]).exit_code == 0
        assert "Filesystem state:         not clean" in _superblock(kept)
    assert "Filesystem state:         clean" in _superblock(kept)
    checked = subprocess.run(["e2fsck", "-fn", kept], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def _superblock(disk):
    return subprocess.run(["dumpe2fs", "-h", disk], capture_output=True, text=True, check=True).stdout


def test_a_terminal_is_a_terminal(machine):
    result = machine.exec(["sh", "-c", "tty; test -t 0 && test -t 1 && test -t 2 && echo yes"], tty=True)
    assert result.stdout.splitlines()[-1] == b"yes"
    assert result.stdout.startswith(b"/dev/pts/")
    assert machine.exec(["tty"]).exit_code == 1


@pytest.mark.parametrize(("scope", "left"), [(propolis.SignalScope.GROUP, 0), (propolis.SignalScope.PROCESS, 1)])
def test_signals_go_by_name_to_the_process_or_its_group(machine, scope, left):
    process = machine.open(["sh", "-c", f"sleep 432{left} & echo $$; wait"])
    assert process.stdout.receive()
    process.stdout.aclose()
    process.stderr.aclose()
    process.signal("SIGTERM", scope)
    assert process.wait().signal == 15
    deadline = time.monotonic() + 30
    while machine.exec(["ps", "-o", "args"]).text.count(f"sleep 432{left}") != left:
        assert time.monotonic() < deadline


def test_names_that_are_not_utf_8_survive(machine):
    name = os.fsdecode(b"/tmp/\xff\xfe")
    assert machine.exec(["touch", name]).exit_code == 0
    assert b"/tmp/\xff\xfe\n" in machine.exec(["find", "/tmp"]).stdout


def test_the_root_is_the_images_and_only_that(machine):
    top = set(machine.exec(["ls", "-a", "/"]).text.split()) - {".", ".."}
    assert top <= {"bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp"}
    mounts = machine.exec(["cat", "/proc/mounts"]).text
    assert "/l/" not in mounts
    assert "ext4" not in mounts


def test_the_workloads_exit_leaves_the_machine_up(busybox_image):
    with propolis.Machine.start(busybox_image, ["sh", "-c", "echo done; exit 5"]) as machine:
        assert machine.wait(30) == 5
        assert machine.logs() == b"done\n"
        assert machine.exec(["true"]).exit_code == 0
        assert machine.is_alive
        machine.stop()
        machine.stop()
        assert not machine.is_alive
        assert machine.logs() == b"done\n"
        assert repr(machine) == f"<Machine {machine.name} {machine.id}>"
        with pytest.raises(MachineLost):
            machine.exec(["true"])


def test_a_guest_that_powers_off_is_a_lost_machine_and_its_console_is_told(busybox_image):
    with propolis.Machine.start(busybox_image, ["sleep", "100"], privileged=True) as machine:
        with pytest.raises(MachineLost) as caught:
            machine.exec(["sh", "-c", "poweroff -f; sleep 60"], timeout=60)
        assert "Power down" in caught.value.console


def test_many_execs_at_once_under_asyncio_and_trio(busybox_image):
    async def main():
        results = []
        async with propolis.AsyncMachine.start(busybox_image, ["sleep", "600"]) as machine:

            async def one(number):
                results.append((number, (await machine.exec(["echo", str(number)])).text))

            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(one, number)
        assert sorted(results) == [(number, f"{number}\n") for number in range(20)]

    for backend in ("asyncio", "trio"):
        anyio.run(main, backend=backend)


def test_an_interpreter_that_ends_takes_its_machines_along(busybox_image, data_directory):
    before = {path.name for path in (data_directory / "machines").iterdir()}
    program = (
        "import sys, propolis\n"
        "machine = propolis.Machine.start(sys.argv[1], ['sleep', '1000'])\n"
        "print(machine.exec(['echo', 'up']).text, end='')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, busybox_image], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, b"up\n"), done.stderr
    assert {path.name for path in (data_directory / "machines").iterdir()} == before
