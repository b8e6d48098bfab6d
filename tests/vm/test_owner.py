"""Machines that outlive the command that started them, and commands that reach machines of other processes."""

import json
import os
import secrets
import signal
import subprocess
import time

import anyio
import pytest

import propolis
from propolis.errors import MachineError
from propolis.machine import connecting
from terminals import PROPOLIS, Terminal
from vmms import marked, vmms_below

PATIENCE = 60


@pytest.fixture
def gone(data_directory):
    """Wait until nothing of any machine is left: no process, no directory."""

    def wait():
        deadline = time.monotonic() + PATIENCE
        while vmms_below(data_directory) or list((data_directory / "machines").glob("*")):
            assert time.monotonic() < deadline, "something is left"
            time.sleep(0.05)

    return wait


@pytest.fixture
def background(cli, busybox_image):
    """`run -d`; whatever is still there at the end is stopped."""
    started = []

    def start(*command, options=()):
        done = cli("run", "-q", "-d", *options, busybox_image, *command)
        assert done.returncode == 0, done.stderr
        started.append(done.stdout.decode().strip())
        return started[-1]

    yield start
    for machine in started:
        cli("stop", "-t", "0", machine)


def beginning(*arguments):
    """A command that goes on beside us; what it prints is read without a buffer, so that `communicate` has the rest."""
    command = [PROPOLIS, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, bufsize=0)


def owner_of(cli, name):
    (machine,) = [json.loads(line) for line in cli("ps", "--json").stdout.splitlines() if name in line.decode()]
    return machine["owner"]


def test_a_machine_in_the_background_is_reached_by_name_id_and_prefix(cli, background, gone):
    machine = background("sh", "-c", "echo out; echo err >&2; exec sleep 1000", options=["--name", "web", "-e", "A=b"])
    for name in ("web", machine, machine[:5]):
        assert cli("exec", name, "sh", "-c", "echo $A; exit 3").returncode == 3
    data = bytes(range(256)) * 12_000  # with what would be detach keys, were it typed
    assert cli("exec", "-i", "web", "cat", input=data).stdout == data
    assert cli("exec", "-e", "A=c", "-w", "/tmp", "-u", "1", "web", "sh", "-c", "echo $A; pwd; id -u").stdout == (
        b"c\n/tmp\n1\n"
    )
    assert cli("exec", "web", "no-such").returncode == 127
    assert sorted(cli("logs", "web").stdout.split()) == [b"err", b"out"]
    assert b"propolis-init" in cli("logs", "--console", "web").stdout or cli("logs", "--console", "web").returncode == 0
    listed = json.loads(cli("ps", "--json").stdout)
    assert (listed["id"], listed["name"]) == (machine, "web")
    assert listed["status"].startswith("up ") and abs(listed["since"] - time.time()) < 600
    assert json.loads(cli("ps", "-a", "--format", "json").stdout)["since"] == listed["since"]
    assert cli("logs", "--tail", "0", "web").stdout == b""
    assert cli("ps", "-q").stdout.decode().split() == [machine]
    assert cli("stop", "-t", "1", "web").returncode == 0
    gone()
    assert b"web" not in cli("ps").stdout
    for command in (["exec", "web", "true"], ["attach", "web"], ["logs", "web"], ["stop", "web"]):
        done = cli(*command)
        assert done.returncode == 125
        assert b"no machine that runs is called 'web'" in done.stderr


def test_who_only_watches_leaves_by_ctrl_c(cli, background):
    background("sh", "-c", "while :; do echo x; sleep 0.1; done", options=["--name", "watched"])
    watching = subprocess.Popen(
        [PROPOLIS, "attach", "--no-stdin", "--sig-proxy=false", "watched"], stdout=subprocess.PIPE
    )
    assert watching.stdout.read(2) == b"x\n"
    watching.send_signal(signal.SIGINT)
    assert watching.wait(60) == 130
    watching.stdout.close()
    assert cli("exec", "watched", "true").returncode == 0


def test_a_machine_in_the_background_ends_with_its_workload(cli, background, gone):
    background("sh", "-c", "until test -e /tmp/go; do echo x; sleep 0.2; done; exit 3", options=["--name", "brief"])
    attached = subprocess.Popen([PROPOLIS, "attach", "--no-stdin", "brief"], stdout=subprocess.PIPE)
    assert attached.stdout.read(2) == b"x\n"
    assert cli("exec", "brief", "touch", "/tmp/go").returncode == 0
    attached.communicate(timeout=PATIENCE)
    assert attached.returncode == 3
    gone()


def test_its_output_is_no_longer_ours(busybox_image, cli):
    """`$(propolis run -d ...)` returns although the machine goes on."""
    command = f"id=$({PROPOLIS} run -q -d {busybox_image} sh -c 'while :; do echo x; sleep 0.1; done' 2>&1); echo $id"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, check=True, text=True)
    assert len(done.stdout.strip()) == 12
    assert cli("stop", "-t", "0", done.stdout.strip()).returncode == 0


def test_what_cannot_start_in_the_background_says_so(cli, busybox_image, gone):
    done = cli("run", "-q", "-d", busybox_image, "no-such")
    assert (done.returncode, done.stdout) == (127, b"")
    assert b"no-such" in done.stderr
    done = cli("run", "-q", "-d", "oci:/nowhere", "true")
    assert done.returncode == 125
    assert done.stderr.count(b"propolis: ") == 1
    gone()


def test_a_time_limit_holds_in_the_background(cli, busybox_image, gone):
    for seconds in ("4", "16", "48"):  # on a host that is busy the boot may take longer
        done = cli("run", "-q", "-d", "--timeout", seconds, busybox_image, "sleep", "1000")
        if done.returncode == 0:
            break
        assert done.returncode == 124, done.stderr
        gone()
    assert done.returncode == 0
    gone()


def test_a_machine_whose_owner_stays_is_told_as_ended(cli, busybox_image, monkeypatch):
    monkeypatch.setattr(connecting, "_PARTING", 3.0)
    with propolis.Machine.start(busybox_image, ["sleep", "1000"], name="kept"):
        with pytest.raises(MachineError, match=f"kept has ended, but process {os.getpid()}"):
            anyio.run(connecting.stop, "kept", 0.0)
        assert json.loads(cli("ps", "--json").stdout)["status"] == "ended"
    assert cli("ps", "-q").stdout == b""


def test_log_and_output_are_followed_by_many(cli, background):
    lines = "for i in 1 2 3 4 5; do echo line $i; sleep 0.1; done"
    machine = background("sh", "-c", f"echo line 0; until test -e /tmp/go; do sleep 0.1; done; {lines}")
    followers = [beginning("logs", "-f", machine) for _ in range(3)]
    assert [follower.stdout.readline() for follower in followers] == [b"line 0\n"] * 3
    assert cli("exec", machine, "touch", "/tmp/go").returncode == 0
    outputs = [follower.communicate(timeout=PATIENCE)[0] for follower in followers]
    assert outputs == [b"".join(b"line %d\n" % number for number in range(1, 6))] * 3


def test_who_does_not_read_holds_up_nobody(cli, background):
    script = "until test -e /tmp/go; do echo x; sleep 0.2; done; head -c 12000000 /dev/zero; echo done; exec sleep 1000"
    machine = background("sh", "-c", script)
    stuck = beginning("attach", machine)
    try:
        quick = beginning("attach", machine)
        for client in (stuck, quick):
            assert client.stdout.readline() == b"x\n"
        assert cli("exec", machine, "touch", "/tmp/go").returncode == 0
        seen = b""
        while not seen.endswith(b"done\n"):
            piece = quick.stdout.read(65536)
            assert piece
            seen = (seen + piece)[-10:]
        quick.kill()
        quick.communicate()
        rest = stuck.communicate(timeout=PATIENCE)
        assert stuck.returncode == 125
        assert len(rest[0]) < 12_000_000
    finally:
        stuck.kill()


def test_keys_leave_a_shell_running_and_attach_comes_back(busybox_image, cli, gone):
    with Terminal("run", "-it", "--name", "left", busybox_image, "sh") as terminal:
        terminal.expect("# ")
        terminal.type("variable=kept\n")
        terminal.expect("# ")
        terminal.type("\x10\x11")
        terminal.expect("left left running")
        assert terminal.wait() == 0
        assert terminal.is_restored()
    assert cli("exec", "left", "echo", "there").stdout == b"there\n"
    with Terminal("attach", "left", rows=22, columns=77) as terminal:
        terminal.type("echo $variable; stty size\n")
        terminal.expect("kept\r\n22 77\r\n")
        terminal.type("\x10")  # held back until the next key tells
        terminal.type("\x11")
        assert terminal.wait() == 0
        assert terminal.is_restored()
    with Terminal("attach", "--detach-keys", "ctrl-a,x", "left") as terminal:
        terminal.type("\x10\x11\x15exit 5\n")
        assert terminal.wait() == 5
    gone()


def test_a_process_of_exec_has_a_terminal_and_can_be_left(background, cli):
    machine = background("sleep", "1000")
    with Terminal(
        "exec", "-it", machine, "sh", environment={"TERM": "xterm-kitty", "COLORTERM": "truecolor"}
    ) as terminal:
        terminal.expect("# ")
        terminal.type("echo $TERM $COLORTERM; stty size\n")
        terminal.expect("xterm-256color truecolor\r\n31 97\r\n")
        terminal.type("while :; do echo x >>/tmp/alive; sleep 0.1; done\n")
        count = ("exec", machine, "wc", "-l", "/tmp/alive")
        deadline = time.monotonic() + PATIENCE
        while cli(*count).returncode != 0:
            assert time.monotonic() < deadline
        terminal.type("\x10\x11")
        assert terminal.wait() == 0
    first = cli(*count).stdout
    while cli(*count).stdout == first:
        assert time.monotonic() < deadline, "it ended with the terminal"


def test_what_exec_started_ends_with_it(background, cli):
    machine = background("sleep", "1000")
    process = subprocess.Popen(
        [PROPOLIS, "exec", machine, "sh", "-c", "echo up; exec sleep 4444"], stdout=subprocess.PIPE
    )
    assert process.stdout.read(3) == b"up\n"
    process.kill()
    process.communicate()
    deadline = time.monotonic() + PATIENCE
    while b"sleep 4444" in cli("exec", machine, "ps", "-o", "args").stdout:
        assert time.monotonic() < deadline


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGHUP])
def test_a_front_end_that_dies_takes_the_machine_along(busybox_image, gone, end):
    with Terminal("run", "-it", busybox_image, "sh") as terminal:
        terminal.expect("# ")
        terminal.signal(end)
        assert terminal.wait() in (-end, 128 + end)
    gone()


@pytest.mark.parametrize("seconds", [0.4, 1.0, 2.0])
def test_a_front_end_that_is_killed_while_the_machine_starts_leaves_nothing(busybox_image, gone, seconds):
    mark = secrets.token_hex(8)
    with Terminal("run", "-it", busybox_image, "sh", environment={"PROPOLIS_TEST": mark}) as terminal:
        time.sleep(seconds)
        terminal.signal(signal.SIGKILL)
        terminal.wait()
    deadline = time.monotonic() + PATIENCE
    while marked(mark):  # its owner may be about to begin
        assert time.monotonic() < deadline, "something runs on"
        time.sleep(0.05)
    gone()


def test_an_owner_that_is_killed_takes_the_machine_along_and_gives_the_terminal_back(busybox_image, cli, gone):
    with Terminal("run", "-it", "--name", "orphan", busybox_image, "sh") as terminal:
        terminal.expect("# ")
        os.kill(owner_of(cli, "orphan"), signal.SIGKILL)
        terminal.expect("owned the machine was killed")
        assert terminal.wait() == 125
        assert terminal.is_restored()
        gone()


def test_an_owner_that_is_terminated_ends_the_machine(cli, background, gone):
    background("sleep", "1000", options=["--name", "ended"])
    os.kill(owner_of(cli, "ended"), signal.SIGTERM)
    gone()


def test_machines_of_python_programs_and_of_pipes_are_reached_too(busybox_image, cli):
    with propolis.Machine.start(busybox_image, ["sh", "-c", "echo from python; exec sleep 1000"], name="library"):
        assert cli("exec", "library", "echo", "hi").stdout == b"hi\n"
        assert cli("logs", "library").stdout == b"from python\n"
        assert cli("ps", "-q").stdout
    with subprocess.Popen(
        [PROPOLIS, "run", "-q", "--name", "piped", busybox_image, "sh", "-c", "echo up; exec sleep 1000"],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.read(3) == b"up\n"
        assert cli("exec", "piped", "echo", "hi").stdout == b"hi\n"
        for command in ("attach", "logs"):
            done = cli(command, "piped")
            assert (done.returncode, b"piped" in done.stderr) == (125, True)
        assert cli("stop", "-t", "1", "piped").returncode == 0
        assert process.wait(PATIENCE) in (137, 143)


def test_the_socket_is_the_users_alone_and_its_path_may_be_long(busybox_image, cli, tmp_path):
    data = tmp_path / ("long" * 30)
    environment = os.environ | {"PROPOLIS_DATA": str(data)}
    machine = cli("run", "-q", "-d", busybox_image, "sleep", "100", env=environment).stdout.decode().strip()
    try:
        control = data / "machines" / machine / "control"
        assert control.stat().st_mode & 0o777 == 0o600
        assert control.parent.stat().st_mode & 0o777 == 0o700
        assert cli("exec", machine, "echo", "hi", env=environment).stdout == b"hi\n"
    finally:
        assert cli("stop", "-t", "0", machine, env=environment).returncode == 0
    assert not control.parent.exists()
