"""The stand-in's library, built once, and machines made of small files."""

import itertools
import json
import shutil
import tempfile
import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from hcs.linux import USER, LinuxPlatform
from propolis.disk.writable import make_writable
from propolis.hypervisor.hyperv import document, hresult, requests
from propolis.hypervisor.hyperv._ffi import ComputeCore
from propolis.hypervisor.hyperv.backend import HypervBackend
from propolis.hypervisor.hyperv.ledger import Ledger
from propolis.spec import BootPlan, Disk, DiskFormat, VMConfig

_ASKED = itertools.count()


@pytest.fixture(scope="session")
def trio_runs():
    """Under Wine it does not: it asks Winsock for what Wine lacks."""
    try:
        anyio.run(anyio.lowlevel.checkpoint, backend="trio")
    except OSError:
        return False
    return True


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    if request.param == "trio" and not request.getfixturevalue("trio_runs"):
        pytest.skip("trio does not run here")
    return request.param


@pytest.fixture(scope="session")
def standin(tmp_path_factory):
    """The stand-in for computecore.dll, as a library of this system."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    from hcs.build import build_library

    return build_library(tmp_path_factory.mktemp("hcs"))


@pytest.fixture
def core(standin):
    return ComputeCore(str(standin))


@pytest.fixture
def faults(monkeypatch):
    """Say which calls fail, in the stand-in's terms."""

    def ask(**calls):
        # the stand-in counts down for as long as the text is the same
        monkeypatch.setenv("PROPOLIS_HCS_FAULTS", json.dumps(calls) + " " * next(_ASKED))

    yield ask
    monkeypatch.delenv("PROPOLIS_HCS_FAULTS", raising=False)


@pytest.fixture
def sockets():
    """A directory whose path is short enough for unix sockets."""
    directory = Path(tempfile.mkdtemp(prefix="hv"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def platform(standin, sockets):
    return LinuxPlatform(standin, sockets)


@pytest.fixture
def backend(platform, tmp_path, monkeypatch):
    monkeypatch.setenv("PROPOLIS_CACHE", str(tmp_path / "cache"))
    return HypervBackend(platform, tmp_path / "records")


@pytest.fixture
def config(tmp_path):
    """A machine of a kernel and an initramfs that nobody runs, and a disk of its own."""
    directory = tmp_path / "machine"
    directory.mkdir()
    boot = tmp_path / "boot"
    boot.mkdir()
    for name in ("kernel", "initramfs"):
        (boot / name).write_bytes(bytes(4096))
    make_writable(directory / "machine.vhdx", DiskFormat.VHDX, {}, layers=[])
    return VMConfig(
        id="0123456789ab",
        boot=BootPlan(kernel=boot / "kernel", initramfs=boot / "initramfs", cmdline="quiet propolis.layers=0"),
        disks=(Disk(path=directory / "machine.vhdx", format=DiskFormat.VHDX, read_only=False),),
        cpus=1,
        memory=256 << 20,
        directory=directory,
    )


@pytest.fixture
def left(platform, core, tmp_path):
    """What machines have left behind, when called: systems, rights, sockets, pipes, records, files, threads."""

    def look(config):
        found = [*platform.held(), *requests.ours(core), *Ledger(tmp_path / "records").entries()]
        found += [path for path in config.directory.iterdir() if path.name != "machine.vhdx"]
        found += [thread for thread in threading.enumerate() if thread.name.startswith("propolis-agent")]
        return found + (["rights"] if _may_start(core, config) else [])

    return look


def _may_start(core, config):
    """Whether HCS would let a machine of this id open its files, asked with the library alone."""
    identity = document.system_id(config.id)
    description = requests.encode(document.build(config, pipe="/nowhere", sid=USER, windows=22631))
    made = []

    def submit(operation):
        code, system = core.create_system(str(identity), description, operation)
        made.append(system)
        return code

    outcome = requests.perform(core, "HcsCreateComputeSystem", submit)
    if outcome.ok:
        outcome = requests.perform(
            core, "HcsStartComputeSystem", lambda operation: core.start_system(made[0], operation)
        )
    for system in filter(None, made):
        core.close_system(system)
    assert outcome.ok or outcome.code == hresult.ACCESS_DENIED, outcome
    return outcome.ok
