"""Who gives up waiting gets the machine ended: cancelled scopes, interrupts, whatever the instant."""

import os
import signal
import subprocess
import sys
from functools import partial

import anyio
import pytest

import propolis
from vmms import vmms_below


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_run_leaves_nothing_at_whatever_instant(busybox_image, data_directory, tmp_path, backend):
    def is_clean():
        return not vmms_below(data_directory) and not list((data_directory / "machines").glob("*"))

    async def cancelled_when_it_runs():
        command = ["sh", "-c", "touch /m/runs; exec sleep 1000"]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(propolis.arun, busybox_image, command, volumes={tmp_path: "/m"}))
            while not (tmp_path / "runs").exists():  # noqa: ASYNC110 - the guest makes it
                await anyio.sleep(0.02)
            tasks.cancel_scope.cancel()

    async def main():
        for seconds in (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0):
            with anyio.move_on_after(seconds) as scope:
                await propolis.arun(busybox_image, ["sleep", "1000"])
            assert scope.cancelled_caught
            assert is_clean()
        await cancelled_when_it_runs()
        assert is_clean()

    anyio.run(main, backend=backend)


def test_cancelling_a_task_of_asyncio_leaves_nothing(busybox_image, data_directory):
    program = (
        "import asyncio, sys, propolis\n"
        "async def main():\n"
        "    for seconds in (0.05, 0.3, 1.5):\n"
        "        try:\n"
        "            await asyncio.wait_for(propolis.arun(sys.argv[1], ['sleep', '1000']), seconds)\n"
        "        except TimeoutError:\n"
        "            print('ended')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program, busybox_image], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, b"ended\n" * 3), done.stderr
    assert not vmms_below(data_directory)
    assert not list((data_directory / "machines").glob("*"))


RUN = "propolis.run(sys.argv[1], ['sleep', '1000'])"
START = "machine = propolis.Machine.start(sys.argv[1], ['sleep', '1000']); machine.wait(3600)"
STOP = (
    "machine = propolis.Machine.start(sys.argv[1], ['sh', '-c', 'trap \"\" TERM; while :; do sleep 1; done']);"
    "print('up', flush=True); machine.wait(3600)"
)


@pytest.mark.parametrize(("call", "seconds"), [(RUN, 0.3), (RUN, 1.5), (START, 0.3), (START, 1.5), (STOP, None)])
def test_an_interrupted_call_ends_the_machine_and_raises(busybox_image, data_directory, call, seconds):
    program = (
        "import sys, propolis\n"
        "import propolis.machine.blocking\n"
        "print('begin', flush=True)\n"
        "try:\n"
        f"    {call}\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, busybox_image], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"begin\n"
            if seconds is None:
                assert process.stdout.readline() == b"up\n"
            else:
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(seconds)
            os.kill(process.pid, signal.SIGINT)
            assert process.stdout.read() == b"interrupted\n"
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert not vmms_below(data_directory)
    assert not list((data_directory / "machines").glob("*"))
