"""A person at a terminal, and pipes that misbehave: `propolis run` between a real pseudo-terminal and a machine."""

import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import time

import pytest

from terminals import PATIENCE, PROPOLIS, Terminal
from vmms import vmms_below


def test_a_shell_is_used_as_at_home(busybox_image):
    with Terminal("run", "-q", "-it", busybox_image, "sh", environment={"TERM": "screen"}) as terminal:
        terminal.expect("# ")
        assert not terminal.is_restored()
        terminal.type("echo $((6*7)) $TERM\n")
        assert "echo $((6*7))" in terminal.expect("42 screen\r\n")
        terminal.type("stty size\n")
        terminal.expect("31 97\r\n")
        terminal.resize(20, 50)
        terminal.type("until stty size | grep '^20 50$'; do sleep 0.1; done\n")
        terminal.expect("\n20 50\r\n")
        terminal.type("tty; test -t 0 && test -t 1 && test -t 2 && echo all of them\n")
        terminal.expect("/dev/pts/[0-9]+\r\n")
        terminal.expect("all of them\r\n")
        terminal.type("sh -c 'echo be\"\"gun; exec sleep 1000'\n")
        terminal.expect("begun\r\n")
        terminal.type("\x03")
        terminal.expect("# ")
        terminal.type("echo $?\n")
        terminal.expect("130\r\n")
        terminal.type("sh -c 'echo be\"\"gun; exec cat'\n")
        terminal.expect("begun\r\n")
        terminal.type("abc\n\x04")
        terminal.expect("abc\r\nabc\r\n")
        terminal.expect("# ")
        terminal.type("(exit 7)\n\x04")
        assert terminal.wait() == 7
        assert terminal.is_restored()


def test_what_is_typed_during_the_boot_is_not_lost(busybox_image):
    with Terminal("run", "-q", "-it", busybox_image, "sh") as terminal:
        terminal.type("echo early $((1+1)); exit 3\n")
        terminal.expect("early 2\r\n")
        assert terminal.wait() == 3


def test_a_termination_ends_the_workload_and_gives_the_terminal_back(busybox_image):
    with Terminal("run", "-q", "-it", busybox_image, "sh", "-c", "echo ready; exec sleep 1000") as terminal:
        terminal.expect("ready\r\n")
        terminal.signal(signal.SIGTERM)
        assert terminal.wait() == 128 + signal.SIGTERM
        assert terminal.is_restored()


def test_a_shell_that_ignores_terminations_is_ended_by_the_third(busybox_image):
    with Terminal("run", "-q", "-it", busybox_image, "sh") as terminal:
        terminal.expect("# ")
        for _ in range(3):
            terminal.signal(signal.SIGTERM)
        assert terminal.wait() == 128 + signal.SIGTERM
        assert terminal.is_restored()


def test_ctrl_c_during_the_boot_ends_it(busybox_image, data_directory, no_boot):
    with Terminal("run", "-q", "-it", busybox_image, "sh", environment=no_boot) as terminal:
        deadline = time.monotonic() + PATIENCE
        while not vmms_below(data_directory):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        terminal.type("\x03")
        assert terminal.wait() in (130, -signal.SIGINT)
        assert terminal.is_restored()
    assert not list((data_directory / "machines").glob("*"))


def test_a_command_that_cannot_run_leaves_the_terminal_as_it_was(busybox_image):
    with Terminal("run", "-q", "-it", busybox_image, "no-such") as terminal:
        terminal.expect("propolis: .*no-such.*\r\n")
        assert terminal.wait() == 127
        assert terminal.is_restored()


def test_a_terminal_without_input_shows_what_is_printed(busybox_image):
    script = "until stty size | grep 31.97; do sleep 0.1; done; test -t 1 && echo yes; cat; exit 4"
    with Terminal("run", "-q", "-t", busybox_image, "sh", "-c", script) as terminal:
        terminal.expect("31 97\r+\n")
        terminal.expect("yes\r+\n")
        terminal.type("\x03")
        assert terminal.wait() == 130


def test_a_terminal_that_hangs_up_takes_the_machine_along(busybox_image, data_directory):
    with Terminal("run", "-q", "-it", busybox_image, "sh") as terminal:
        terminal.expect("# ")
        terminal.signal(signal.SIGHUP)
        assert terminal.wait() == 128 + signal.SIGHUP
    assert not list((data_directory / "machines").glob("*"))


# --- pipes


def shell(command, timeout=PATIENCE, **options):
    """A command line with `run` and the image in it, as a user types it into bash."""
    return subprocess.run(["bash", "-c", command], capture_output=True, timeout=timeout, check=False, **options)


@pytest.fixture
def line(busybox_image):
    return f"{PROPOLIS} run -q", busybox_image


def test_a_workload_that_ends_does_not_wait_for_its_input_to_end(busybox_image):
    reading, writing = os.pipe()
    try:
        with subprocess.Popen(
            [PROPOLIS, "run", "-qi", busybox_image, "sh", "-c", "head -n 1; exit 5"],
            stdin=reading,
            stdout=subprocess.PIPE,
        ) as process:
            os.write(writing, b"one\ntwo\n")
            assert process.stdout.read() == b"one\n"
            assert process.wait(PATIENCE) == 5
    finally:
        os.close(reading)
        os.close(writing)


def test_input_that_nobody_reads_is_dropped(line):
    run, image = line
    done = shell(f"head -c 30000000 /dev/zero | {run} -i {image} sh -c 'head -c 10 | wc -c; exit 6'")
    assert (done.returncode, done.stdout.strip()) == (6, b"10"), done.stderr


def test_a_slow_reader_gets_all_of_it_in_order(line):
    run, image = line
    slow = "(read -r first; sleep 2; (echo $first; cat) | md5sum; seq 400000 | md5sum >&2)"
    done = shell(f"{run} {image} seq 400000 | {slow}; exit ${{PIPESTATUS[0]}}")
    assert done.returncode == 0
    assert done.stdout == done.stderr


def test_a_time_limit_holds_although_nobody_reads(busybox_image):
    with subprocess.Popen(
        [PROPOLIS, "run", "-q", "--timeout", "5", busybox_image, "yes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.wait(PATIENCE) == 124
        assert process.stderr.read().startswith(b"propolis: ")


@pytest.mark.parametrize(
    ("redirection", "code"), [("<&-", 0), (">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0), (">/dev/full", 125)]
)
def test_streams_that_are_closed_or_full(line, redirection, code):
    run, image = line
    done = shell(f"{run} -i {image} sh -c 'cat; echo out; echo err >&2' {redirection}")
    said = done.stderr.decode()
    assert done.returncode == code, said
    assert "internal error" not in said
    assert done.stdout == (b"" if ">&-" in redirection.split() or "full" in redirection else b"out\n")
    if code:
        assert "no space left" in said
        assert "standard output" in said


def test_a_stream_that_does_not_block_loses_nothing(busybox_image):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with subprocess.Popen([PROPOLIS, "run", "-q", busybox_image, "seq", "100000"], stdout=writing) as process:
        os.close(writing)
        select.select([reading], [], [], PATIENCE)
        time.sleep(1)
        with os.fdopen(reading, "rb") as file:
            assert file.read().split() == [str(number).encode() for number in range(1, 100001)]
        assert process.wait(PATIENCE) == 0


def test_what_was_started_under_nohup_survives_a_hangup(busybox_image):
    command = ["nohup", PROPOLIS, "run", "-q", busybox_image, "sh", "-c", "echo ready; sleep 1; echo survived"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.read() == b"survived\n"
        assert process.wait(PATIENCE) == 0


def test_progress_is_drawn_for_a_person_and_wiped(busybox_image, tmp_path):
    slow = tmp_path / "qemu-system-x86_64"  # nothing is drawn of a boot that is over before anybody could read it
    slow.write_text(f'#!/bin/sh\nsleep 1\nexec {shutil.which(slow.name)} "$@"\n')
    slow.chmod(0o755)
    reading, writing = pty.openpty()
    try:
        done = subprocess.run(
            [PROPOLIS, "run", busybox_image, "true"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=writing,
            timeout=PATIENCE,
            env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            check=False,
        )
        os.close(writing)  # from then on the terminal ends after what was printed
        said = b""
        with contextlib.suppress(OSError):
            while piece := os.read(reading, 65536):
                said += piece
    finally:
        os.close(reading)
    assert done.returncode == 0
    assert b"propolis: boot" in said
    assert said.endswith(b"\r\x1b[J")
