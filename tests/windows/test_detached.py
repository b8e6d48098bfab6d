"""Machines that go on after the command that started them: `run -d`, and keys that leave one."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

CAPTURED = Path(__file__).with_name("captured.py")
INTERRUPT = Path(__file__).with_name("interrupt.py")
RUN = ("run", "--quiet", "--backend", "hyperv")
PATIENCE = 120
KILLED = """
import pathlib, subprocess, sys, time
process = subprocess.Popen([sys.executable, "-m", "propolis", *sys.argv[2:]])
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.05)
process.kill()
process.wait()
print("killed", flush=True)
while pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.05)
"""


@pytest.fixture
def captured(hyperv):
    """Run a command to its end; its exit code, and what it printed until nobody held its output any more."""

    def run(*arguments):
        with hyperv.start(CAPTURED, *arguments, stderr=subprocess.DEVNULL) as process:
            return json.loads(process.communicate(timeout=PATIENCE)[0])

    return run


@pytest.fixture
def background(hyperv, captured, busybox):
    """`run -d`; whatever is still there at the end is stopped."""
    started = []

    def start(*command, options=()):
        code, stdout, stderr = captured(*RUN, "-d", *options, busybox, *command)
        assert (code, stderr) == (0, "")
        started.append(stdout.strip())
        return started[-1]

    yield start
    for machine in started:
        hyperv.propolis("stop", "-t", "0", machine)


@pytest.fixture
def gone(hyperv, eventually):
    """Wait until nothing runs any more, and no directory is left, unless an owner that was killed leaves one."""

    def wait(*, swept=True):
        eventually(lambda: not hyperv.bridge.processes and not list(hyperv.bridge.systems))
        if swept:
            eventually(lambda: not hyperv.machines())

    return wait


def test_a_machine_in_the_background_is_used_and_stopped(hyperv, background, gone):
    machine = background("sh", "-c", "echo out; echo err >&2; exec sleep 1000", options=["--name", "web", "-e", "A=b"])
    assert re.fullmatch("[0-9a-f]{12}", machine)
    listed = json.loads(hyperv.propolis("ps", "--json").stdout)
    assert (listed["id"], listed["name"]) == (machine, "web")
    done = hyperv.propolis("exec", "web", "sh", "-c", "echo $A; exit 3")
    assert (done.returncode, done.stdout) == (3, b"b\n")
    assert sorted(hyperv.propolis("logs", machine[:5]).stdout.split()) == [b"err", b"out"]
    done = hyperv.propolis("stop", "-t", "1", "web")
    assert (done.returncode, done.stderr) == (0, b"")
    gone()


def test_a_machine_in_the_background_ends_with_its_workload(hyperv, background, gone):
    background("sh", "-c", "until test -e /tmp/go; do echo x; sleep 0.2; done; exit 3", options=["--name", "brief"])
    with hyperv.start("-m", "propolis", "attach", "--no-stdin", "brief") as client:
        assert client.stdout.readline() == b"x\n"
        assert hyperv.propolis("exec", "brief", "touch", "/tmp/go").returncode == 0
        assert client.wait(PATIENCE) == 3
    gone()


def test_what_cannot_start_in_the_background_says_so(captured, busybox, gone):
    code, stdout, stderr = captured(*RUN, "-d", busybox, "no-such")
    assert (code, stdout) == (127, "")
    assert "no-such" in stderr
    code, stdout, stderr = captured(*RUN, "-d", "oci:C:\\nowhere", "true")
    assert (code, stdout, stderr.count("propolis: ")) == (125, "", 1)
    gone()


def test_a_time_limit_holds_in_the_background(background, gone):
    background("sleep", "1000", options=["--timeout", "20"])
    gone()


def test_a_front_end_that_is_killed_while_the_machine_starts_leaves_nothing(hyperv, busybox, eventually, gone):
    with hyperv.start("-m", "propolis", *RUN, "-d", busybox, "sleep", "1000") as process:
        eventually(lambda: hyperv.bridge.processes)
        process.kill()
        assert process.stdout.read() == b""
    gone()


def test_a_front_end_that_is_killed_takes_the_machine_along(hyperv, busybox, tmp_path, gone):
    """The console goes on, as another program uses it."""
    now = tmp_path / "now"
    with hyperv.terminal(hyperv.path(now), *RUN, "-it", busybox, "sh", program=("-c", KILLED)) as terminal:
        terminal.expect("# ")
        now.touch()
        terminal.expect("killed")
        gone()
        now.unlink()
        assert terminal.wait() == 0


def test_a_console_that_is_closed_takes_the_machine_along(hyperv, busybox, gone):
    """Wine then kills whoever is on it, so that there is a directory for the next run to remove."""
    with hyperv.terminal(*RUN, "-it", busybox, "sh") as terminal:
        terminal.expect("# ")
        terminal.signal(signal.SIGKILL)
        terminal.wait()
        gone(swept=False)
    assert hyperv.propolis(*RUN, busybox, "true").returncode == 0
    gone()


def test_ctrl_c_is_not_the_owners(hyperv, busybox, gone):
    script = "trap 'echo trapped; exit 9' INT; echo ready; while true; do sleep 0.1; done"
    with hyperv.terminal("1", *RUN, "-it", busybox, "sh", "-c", script, program=(INTERRUPT,)) as terminal:
        terminal.expect("trapped")
        terminal.expect("exited:9")
        assert terminal.wait() == 0
    gone()


def test_keys_leave_a_shell_running_and_attach_comes_back(hyperv, busybox, gone):
    with hyperv.terminal(*RUN, "-it", "--name", "left", busybox, "sh") as terminal:
        terminal.expect("# ")
        terminal.type("variable=kept\r")
        terminal.expect("# ")
        terminal.type("\x10\x11")
        assert terminal.wait() == 0
        assert terminal.is_restored()
    assert hyperv.propolis("exec", "left", "echo", "there").stdout == b"there\n"
    with hyperv.terminal("attach", "left", rows=22, columns=77) as terminal:
        terminal.expect("# ")
        terminal.type("echo $variable$((6*7))\r")
        terminal.expect("kept42")
        terminal.type("exit 5\r")
        assert terminal.wait() == 5
    gone()


def test_an_owner_that_is_terminated_takes_the_machine_along_and_gives_the_console_back(hyperv, busybox, gone):
    with hyperv.terminal(*RUN, "-it", "--name", "orphan", busybox, "sh") as terminal:
        terminal.expect("# ")
        owner = json.loads(hyperv.propolis("ps", "--json").stdout)["owner"]
        hyperv.python("-c", f"import os; os.kill({owner}, 9)")
        terminal.expect(r"owned\D{1,9}the\D{1,9}machine\D{1,9}was\D{1,9}terminated")
        assert terminal.wait() == 125
        assert terminal.is_restored()
    gone()
