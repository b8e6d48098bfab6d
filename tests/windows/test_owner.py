"""A machine that runs in one console, used from another: ps, exec, stop, logs and attach over a named pipe."""

import contextlib
import subprocess

import pytest

RUN = ("run", "--quiet", "--backend", "hyperv", "--name", "web")
FROM_PYTHON = """
import sys, time, propolis
with propolis.Machine.start(sys.argv[1], ["sh", "-c", sys.argv[2]], backend="hyperv", name="py") as machine:
    while b"ready" not in machine.logs():
        time.sleep(0.05)
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def web(hyperv, busybox):
    """A machine called web, of a command in another console."""
    with hyperv.start("-m", "propolis", *RUN, busybox, "sh", "-c", "echo ready; exec sleep 600") as process:
        assert process.stdout.readline() == b"ready\n", process.stderr.read()
        yield process
        with contextlib.suppress(ProcessLookupError):
            hyperv.propolis("stop", "-t", "0", "web")
            process.wait(60)


def test_a_machine_is_used_and_stopped_from_another_console(hyperv, web):
    listed = hyperv.propolis("ps", "--quiet").stdout.split()
    assert len(listed) == 1
    done = hyperv.propolis("exec", "web", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    data = bytes(range(256)) * 8192
    done = hyperv.propolis("exec", "-i", listed[0].decode()[:5], "cat", input=data)
    assert (done.returncode, len(done.stdout)) == (0, len(data)), done.stderr
    assert done.stdout == data
    assert hyperv.propolis("exec", "-d", "web", "sh", "-c", "sleep 1; echo left > /left").returncode == 0
    done = hyperv.propolis("exec", "web", "sh", "-c", "until test -e /left; do sleep 0.1; done; cat /left")
    assert done.stdout == b"left\n"
    refused = hyperv.propolis("logs", "web")
    assert refused.returncode != 0
    assert b"is not kept" in refused.stderr
    done = hyperv.propolis("stop", "-t", "1", "web")
    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    assert web.wait(60) != 0
    assert b"no machine that runs" in hyperv.propolis("exec", "web", "true").stderr


def test_a_client_that_is_killed_takes_what_it_started_along_and_nothing_else(hyperv, web, eventually):
    with hyperv.start("-m", "propolis", "exec", "web", "sh", "-c", "echo there; exec sleep 500") as client:
        assert client.stdout.readline() == b"there\n"
        client.kill()
    count = ("exec", "web", "sh", "-c", "ps | grep -c '[s]leep 500' || true")
    eventually(lambda: hyperv.propolis(*count).stdout == b"0\n")
    assert web.poll() is None


def test_the_output_of_a_machine_of_pythons_is_kept_and_followed(hyperv, busybox):
    workload = "echo ready; while sleep 0.3; do echo tick; done"
    with hyperv.start("-c", FROM_PYTHON, busybox, workload, stdin=subprocess.PIPE) as process:
        assert process.stdout.readline().strip() == b"ready", process.stderr.read()
        assert hyperv.propolis("logs", "py").stdout.startswith(b"ready\n")
        with hyperv.start("-m", "propolis", "attach", "--no-stdin", "py") as client:
            assert client.stdout.readline() == b"tick\n"
        process.stdin.close()
        assert process.wait(60) == 0, process.stderr.read()
