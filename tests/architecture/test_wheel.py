"""What is shipped: one wheel for every system, with the guest program for every architecture in it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = directory.glob("*.whl")
    return path


def test_the_wheel_is_pure(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")


def test_the_wheel_carries_the_guest_program_and_the_type_marker(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "propolis/guest/_bin/init-x86_64",
        "propolis/guest/_bin/init-aarch64",
        "propolis/agent/schema/gen-1.json",
        "propolis/py.typed",
    } <= names


def test_every_module_is_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "propolis").rglob("*.py")}
    assert modules <= names
