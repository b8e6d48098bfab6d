"""Propolis on Windows as a user runs it: the official CPython under Wine, machines booted by the stand-in for HCS.

`make test-windows` makes the Windows (tools/windows.py); without it these tests are skipped.
"""

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import windows
from hcs.build import build_dll
from hcs.winepath import to_host
from terminals import Terminal

HERE = Path(__file__).resolve().parent
STAND_IN = HERE.parent / "hcs"
_PATIENCE = 180
_END_PATIENCE = 60
"""Seconds for what follows a process' end, through Wine's server and the bridge, on a host that is busy."""
_POLL = 0.05


@dataclass(frozen=True)
class Windows:
    """One Windows, with directories of its own for propolis."""

    directory: Path
    environment: dict[str, str]
    bridge: object = None
    """The Host Compute Service's other side, on this host."""

    def python(self, *arguments, input=None, timeout=_PATIENCE, env=None):
        """Run the interpreter to its end; the finished process, its output as bytes."""
        with self.start(*arguments, env=env, stdin=subprocess.DEVNULL if input is None else subprocess.PIPE) as process:
            stdout, stderr = process.communicate(input, timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def propolis(self, *arguments, **options):
        """Run `python -m propolis ...` to its end."""
        return self.python("-m", "propolis", *arguments, **options)

    @contextlib.contextmanager
    def start(self, *arguments, env=None, **options):
        """Start the interpreter; killed at the end if it still runs."""
        process = subprocess.Popen(
            windows.command("python", *map(str, arguments)),
            env=self.environment | (env or {}),
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
            process.wait(_END_PATIENCE)

    def terminal(self, *arguments, program=("-m", "propolis"), **size):
        """A console of this Windows on a pseudo-terminal, with `propolis` on it; gone at the end of the context."""
        command = windows.command("python", *program)
        return Terminal(*map(str, arguments), environment=self.environment, program=command, **size)

    def machines(self):
        """Directories of machines that are there."""
        return {path.name for path in (self.directory / "data" / "machines").glob("*")}

    def path(self, path):
        """What a path of this host is called there."""
        return windows.windows_path(Path(path))


def pytest_collection_modifyitems(items):
    if sys.platform == "linux" and (windows.PYTHON / "python.exe").exists() and shutil.which("wine"):
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="there is no Windows here: make test-windows"))


@pytest.fixture(scope="session")
def _session():
    with windows.session():
        yield


@pytest.fixture(scope="session")
def rig(_session, tmp_path_factory):
    """The Windows, without machines."""
    directory = tmp_path_factory.mktemp("windows")
    (directory / "hvsockets").mkdir()
    chosen = {
        "PROPOLIS_CACHE": windows.windows_path(directory / "cache"),
        "PROPOLIS_DATA": windows.windows_path(directory / "data"),
        "PROPOLIS_HVSOCKETS": windows.windows_path(directory / "hvsockets"),
        "PYTHONPATH": windows.windows_path(HERE / "site"),
    }
    return Windows(directory, windows.environment(chosen))


@pytest.fixture(scope="session")
def _stand_in(rig):
    """The stand-in for HCS in System32, where Windows has the real one."""
    built = windows.CACHE / "stand-in"
    sources = [STAND_IN / "build.py", *sorted((STAND_IN / "src").iterdir())]
    windows.made(built, "".join(path.read_text(encoding="utf-8") for path in sources), build_dll)
    target = windows.SYSTEM32 / "computecore.dll"
    shutil.copyfile(built / target.name, target)
    yield target
    target.unlink()


@pytest.fixture(scope="session")
def _service(rig, _stand_in, tmp_path_factory):
    """One for all tests, as on Windows: who may open which file outlives machines and processes."""
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    from hcs.bridge import Bridge

    hvsockets = rig.directory / "hvsockets"
    with Bridge(tmp_path_factory.mktemp("bridge"), hvsockets=hvsockets, wineprefix=windows.PREFIX) as bridge:
        yield bridge


@pytest.fixture
def hyperv(rig, _service):
    """The Windows, with a Host Compute Service that boots machines; nothing of them may be left afterwards."""
    yield Windows(rig.directory, rig.environment | {"PROPOLIS_HCS_BRIDGE": str(_service.port)}, _service)
    assert _service.processes == ()
    assert rig.machines() == set()
    assert list(_service.systems) == []
    assert [grant for grant in _service.grants if _stands(*grant)] == []


def _stands(machine, path):
    """Whether a right of one machine is left; one on a file that is gone went with it."""
    return machine != "*" and to_host(path, windows.PREFIX).exists()


@pytest.fixture
def computecore(_stand_in):
    """Take computecore.dll out of System32, or put there one that lacks some exports; the usual one comes back."""

    def replace(*, without=()):
        _stand_in.unlink()
        if without:
            shutil.copyfile(build_dll(windows.CACHE / "stand-in", without=without), _stand_in)

    yield replace
    shutil.copyfile(windows.CACHE / "stand-in" / _stand_in.name, _stand_in)


@pytest.fixture
def agent_port(rig):
    """Wait for the socket of a machine that is being started; its port."""
    directory = rig.directory / "hvsockets"
    before = set(directory.iterdir())

    def wait(process):
        while not (new := {path for path in directory.iterdir() if path.name[0] != "."} - before):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        return int(new.pop().read_text())

    return wait


@pytest.fixture
def eventually():
    """Wait for a condition that another process brings about."""

    def wait(condition, seconds=_END_PATIENCE):
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "it did not come about"
            time.sleep(_POLL)

    return wait


@pytest.fixture(scope="session")
def busybox(busybox_image):
    """Reference of the busybox image as Windows has it."""
    return _there(busybox_image)


@pytest.fixture(scope="session")
def debian(debian_image):
    """Reference of the Debian image as Windows has it."""
    return _there(debian_image)


def _there(reference):
    transport, _, place = reference.partition(":")
    path, _, tag = place.rpartition(":")
    return f"{transport}:{windows.windows_path(Path(path))}:{tag}"
