"""The DLL: that its exports are those of the header, and that a Windows program gets through it under Wine."""

import copy
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hcs import build
from hcs.bridge import Bridge
from hcs.conftest import BASE
from hcs.machine import AGENT_SERVICE
from propolis.disk.writable import make_writable
from propolis.spec import DiskFormat

pytestmark = pytest.mark.skipif(not build.has_cross_compiler(), reason="mingw-w64 is not installed")

VM_ID = "7a9c3d10-0000-4000-8000-00000000beef"


@pytest.fixture(scope="session")
def dll(tmp_path_factory):
    return build.build_dll(tmp_path_factory.mktemp("dll"))


def exports_of(path):
    listing = subprocess.run(
        ["x86_64-w64-mingw32-objdump", "-p", path], capture_output=True, text=True, check=True
    ).stdout
    return {line.split()[-1] for line in listing.partition("[Ordinal/Name")[2].splitlines() if "Hcs" in line}


def test_exports(dll):
    names = exports_of(dll)
    assert len(names) > 30
    lacking = build.NOT_ON_WINDOWS_10
    assert exports_of(build.build_dll(dll.parent, without=lacking)) == names - set(lacking)


@pytest.fixture(scope="session")
def wine(dll, tmp_path_factory):
    """Run the smoke test's program in a prefix of its own; returns its lines."""
    if shutil.which("wine") is None:
        pytest.skip("Wine is not installed")
    folder = tmp_path_factory.mktemp("wine")
    program = dll.parent / "smoke.exe"
    source = Path(build.__file__).with_name("smoke.c")
    flags = ("-municode", "-DUNICODE", "-D_WIN32_WINNT=0x0A00", "-Wall", "-Wextra", "-Werror")
    subprocess.run([build.CROSS_COMPILER, *flags, "-o", program, source, dll], check=True)
    environment = os.environ | {
        "WINEPREFIX": str(folder / "prefix"),
        "WINEDEBUG": "-all",
        "WINEARCH": "win64",
        "WINEDLLOVERRIDES": "mscoree=d;mshtml=d;winemenubuilder.exe=d",
    }

    def run(*arguments, **extra):
        finished = subprocess.run(
            ["wine", program, *arguments],
            env=environment | extra,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=240,
            check=False,
        )
        assert finished.returncode == 0, finished
        return finished.stdout.splitlines()

    yield run
    subprocess.run(["wineserver", "-k"], env=environment, check=False)


def windows(path):
    return "Z:" + str(path).replace("/", "\\")


@pytest.fixture
def files(tmp_path):
    """A document with Windows' paths, its file, and the files that it names."""
    kernel, disk = tmp_path / "vmlinux", tmp_path / "Dïsk.vhdx"
    kernel.write_bytes(b"\x7fELF")
    make_writable(disk, DiskFormat.VHDX, {})
    document = copy.deepcopy(BASE)
    machine = document["VirtualMachine"]
    machine["Chipset"]["LinuxKernelDirect"]["KernelFilePath"] = windows(kernel)
    attachments = machine["Devices"]["Scsi"]["df6d0690-79e5-55b6-a5ec-c1e2f77f580a"]["Attachments"]
    attachments["0"] = {"Type": "VirtualDisk", "Path": windows(disk)}
    path = tmp_path / "document.json"
    path.write_text(json.dumps(document, ensure_ascii=False))
    return windows(path), windows(kernel), windows(disk)


def test_life_of_a_system_under_wine(wine, files):
    lines = wine(*files)
    assert lines[:2] == ["grant 00000000", "grant 00000000"]
    assert lines[2:4] == ["create 00000000 -", "start 00000000 -"]
    assert f'"RuntimeId":"{VM_ID}"' in lines[4]
    assert '"State":"Running"' in lines[4]
    assert sorted(line.split()[0] for line in lines[5:]) == ["event", "terminate"]
    assert any(line.startswith('event 1 {"Status":') and line.endswith(" 42") for line in lines)


def test_a_refusal_under_wine(wine, files):
    (line, *_) = wine(files[0])
    assert line.startswith("create 80070005 ")
    assert "ErrorEvents" in line


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="QEMU is not installed")
def test_the_bridge_from_wine(wine, files, tmp_path):
    """A kernel that is none: the bridge finds the files by their Windows names, QEMU says what is wrong with them."""
    with Bridge(tmp_path, hvsockets=tmp_path) as bridge:
        lines = wine(*files, PROPOLIS_HCS_BRIDGE=str(bridge.port))
        assert lines[2] == "create 00000000 -"
        assert lines[3].startswith("start 80370100 ")
        assert bridge.systems == {}
        assert {path for _, path in bridge.grants} == set(files[1:])
    assert AGENT_SERVICE not in str(list(tmp_path.iterdir()))
