"""`propolis run` as a user has it: one machine a test, so only what needs a machine of its own."""

import hashlib
import os
import signal
import subprocess
import time

import pytest

from terminals import PATIENCE, PROPOLIS, deliver
from vmms import vmms_below

FLAGS = ("run", "--rm", "-q")


def test_output_error_and_exit_code_are_the_workloads(cli, busybox_image):
    done = cli(*FLAGS, busybox_image, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


def test_the_images_command_and_every_option_reach_the_workload(cli, busybox_image):
    script = "id -u; id -g; pwd; hostname; echo $ONE $TWO; nproc; grep -c . /proc/self/mounts >/dev/null; echo $0"
    options = [
        "-u",
        "nobody:staff",
        "-w",
        "/new/dir",
        "--hostname",
        "here",
        "-e",
        "ONE=1 2",
        "-e",
        "TWO",
        "--cpus",
        "2",
    ]
    done = cli(
        *FLAGS, *options, "--entrypoint", "sh", busybox_image, "-c", script, env=os.environ | {"TWO": "from outside"}
    )
    assert done.stdout.decode().splitlines() == ["65534", "50", "/new/dir", "here", "1 2 from outside", "2", "sh"]
    assert done.returncode == 0


def test_input_is_passed_on_to_its_end_and_output_of_any_size_comes_back_in_order(cli, busybox_image):
    data = os.urandom(1 << 20) * 12
    done = cli(*FLAGS, "-i", busybox_image, "sh", "-c", "tee /dev/stderr | sha256sum >/out; cat /out >&2", input=data)
    assert done.returncode == 0
    assert done.stderr[: len(data)] == data
    assert done.stderr[len(data) :].split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_without_i_the_workload_reads_end_of_file(cli, busybox_image):
    done = cli(*FLAGS, busybox_image, "sh", "-c", "cat; echo end", input=b"not for it")
    assert done.stdout == b"end\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("IMAGE", "no-such-program"), 127, "no-such-program"),
        (("IMAGE", "/etc/passwd"), 126, "/etc/passwd"),
        (("-u", "nosuch", "IMAGE", "true"), 125, "nosuch"),
        (("--timeout", "4", "IMAGE", "sleep", "100"), 124, "--timeout"),
    ],
)
def test_what_cannot_be_run_says_so_with_dockers_codes(cli, busybox_image, arguments, code, words):
    done = cli(*FLAGS, *(busybox_image if part == "IMAGE" else part for part in arguments))
    said = done.stderr.decode()
    assert (done.returncode, words in said, "Traceback" in said) == (code, True, False), said
    assert len(said.splitlines()) <= 2


def test_a_killed_workload_is_told_by_its_signal(cli, busybox_image):
    assert cli(*FLAGS, busybox_image, "sh", "-c", "kill -9 $$").returncode == 128 + signal.SIGKILL


def test_ctrl_c_reaches_the_workload(busybox_image):
    script = "trap 'echo caught; exit 42' INT; echo ready; while :; do sleep 0.1; done"
    with _running(busybox_image, "sh", "-c", script) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 42
        assert process.stdout.read() == b"caught\n"


def test_a_workload_that_ignores_interrupts_can_still_be_left(busybox_image):
    with _running(busybox_image, "sh", "-c", "trap '' INT TERM; echo ready; sleep 1000") as process:
        for _ in range(3):
            deliver(process, signal.SIGINT)
        assert process.wait(PATIENCE) == 128 + signal.SIGINT


def test_a_termination_before_the_workload_runs_ends_the_launch(busybox_image, data_directory, no_boot):
    command = [PROPOLIS, *FLAGS, busybox_image, "sleep", "100"]
    with subprocess.Popen(command, env=os.environ | no_boot) as process:
        deadline = time.monotonic() + PATIENCE
        while not vmms_below(data_directory):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.terminate()
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM


@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.2, None])
def test_killed_at_any_point_nothing_keeps_running_and_the_next_run_cleans_up(
    cli, busybox_image, data_directory, seconds
):
    with subprocess.Popen(
        [PROPOLIS, *FLAGS, busybox_image, "sh", "-c", "echo ready; sleep 1000"], stdout=subprocess.PIPE
    ) as process:
        if seconds is None:
            assert process.stdout.readline() == b"ready\n"
        else:
            time.sleep(seconds)
        process.kill()
    deadline = time.monotonic() + PATIENCE
    while (left := vmms_below(data_directory)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
    assert cli(*FLAGS, busybox_image, "true").returncode == 0
    assert not list((data_directory / "machines").iterdir())


def test_a_name_is_taken_for_as_long_as_its_machine_lives(cli, busybox_image):
    with _running(busybox_image, "sh", "-c", "echo ready; sleep 1000", options=["--name", "web"]) as process:
        done = cli(*FLAGS, "--name", "web", busybox_image, "true")
        assert (done.returncode, b"'web'" in done.stderr) == (125, True)
        process.terminate()
        process.wait(PATIENCE)
    assert cli(*FLAGS, "--name", "web", busybox_image, "true").returncode == 0


def test_a_reader_that_goes_away_ends_the_machine_quietly(busybox_image):
    command = f"{PROPOLIS} {' '.join(FLAGS)} {busybox_image} yes | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60, check=False)
    assert (done.stdout, b"Traceback" in done.stderr) == (b"y\n", False)


def test_software_emulation_is_announced_once_and_steps_are_timed(cli, busybox_image):
    done = cli("run", "--timing", busybox_image, "true")
    said = done.stderr.decode()
    assert said.count("software emulation") <= 1
    assert "boot" in said
    assert done.returncode == 0


class _running:  # noqa: N801 - reads as a verb
    """A run whose workload has said that it is ready."""

    def __init__(self, *arguments, options=()):
        self._command = [PROPOLIS, *FLAGS, *options, *arguments]

    def __enter__(self):
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        assert self._process.stdout.readline() == b"ready\n"
        return self._process

    def __exit__(self, *_exception):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
