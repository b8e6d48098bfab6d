"""Fixtures that boot machines with whatever backend works on this host; in software emulation if need be."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import propolis
from hcs.bridge import Bridge
from hcs.build import build_library
from hcs.linux import LinuxPlatform
from propolis.hypervisor import registry
from propolis.hypervisor.hyperv.backend import HypervBackend

PROPOLIS = Path(sys.executable).with_name("propolis")


@pytest.fixture(scope="session", autouse=True)
def _qemu_is_installed():
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed")


@pytest.fixture(scope="session", autouse=True)
def data_directory(tmp_path_factory):
    """Machines of the tests are kept apart from the user's; the cache (kernel, disks) is shared with them."""
    directory = tmp_path_factory.mktemp("data")
    before = os.environ.get("PROPOLIS_DATA")
    os.environ["PROPOLIS_DATA"] = str(directory)
    yield directory
    if before is None:
        del os.environ["PROPOLIS_DATA"]
    else:
        os.environ["PROPOLIS_DATA"] = before


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(data_directory):
    before = _machines(data_directory)
    yield
    assert _machines(data_directory) <= before


def _machines(directory):
    return {path.name for path in (directory / "machines").glob("*")}


@pytest.fixture(scope="module")
def machine(busybox_image):
    """One machine for tests that only need something to run in it."""
    with propolis.Machine.start(busybox_image, ["sleep", "3600"], hostname="box") as machine:
        yield machine


@pytest.fixture
def cli():
    """Run the command line; returns the finished process with bytes for output."""

    def run(*arguments, input=None, timeout=120, **options):
        command = [PROPOLIS, *map(str, arguments)]
        options = {"stdin": subprocess.DEVNULL} | options if input is None else options
        return subprocess.run(command, input=input, capture_output=True, timeout=timeout, check=False, **options)

    return run


@pytest.fixture
def no_boot(tmp_path):
    """An environment in which machines stand still from the beginning: whatever comes during their boot is in time."""
    still = tmp_path / "still" / "qemu-system-x86_64"
    still.parent.mkdir()
    still.write_text(f'#!/bin/sh\nexec {shutil.which(still.name)} "$@" -S\n')
    still.chmod(0o755)
    return {"PATH": f"{still.parent}:{os.environ['PATH']}"}


@pytest.fixture(scope="session")
def standin(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    return build_library(tmp_path_factory.mktemp("hcs"))


@pytest.fixture
def hyperv(standin, tmp_path, monkeypatch):
    """Hyper-V as the only backend; what is left behind fails the test."""
    short = Path(tempfile.mkdtemp(prefix="hv"))
    for name in ("pipes", "hvsockets"):
        (short / name).mkdir()
    (tmp_path / "machines").mkdir()
    monkeypatch.setenv("PROPOLIS_DATA", str(tmp_path / "data"))
    with Bridge(tmp_path / "machines", hvsockets=short / "hvsockets") as bridge:
        monkeypatch.setenv("PROPOLIS_HCS_BRIDGE", str(bridge.port))
        platform = LinuxPlatform(standin, short / "pipes", hvsockets=short / "hvsockets")
        monkeypatch.setattr(registry, "_BUILT_IN", {"hyperv": lambda: HypervBackend(platform)})
        yield bridge
        assert platform.held() == []
        assert [system for system in bridge.systems.values() if system.state != "Stopped"] == []
        assert [grant for grant in bridge.grants if grant[0] != "*"] == []
        assert len(set(bridge.grants)) == len(bridge.grants)
        assert bridge.processes == ()
    assert list((tmp_path / "machines").iterdir()) == []
    assert list((tmp_path / "data" / "machines").iterdir()) == []
    assert list((tmp_path / "data" / "hyperv").glob("????????-*.json")) == []
    shutil.rmtree(short)
