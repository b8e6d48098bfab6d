"""The stand-in as a library of this host, a document that it takes, and files that it may open."""

import copy
import json
import os
import shutil
import sys
import time
import uuid

import pytest

from hcs import build
from hcs.computecore import ComputeCore

BASE = {
    "Owner": "propolis",
    "SchemaVersion": {"Major": 2, "Minor": 3},
    "ShouldTerminateOnLastHandleClosed": True,
    "VirtualMachine": {
        "StopOnReset": True,
        "Chipset": {"UseUtc": True, "LinuxKernelDirect": {"KernelFilePath": "", "KernelCmdLine": "panic=-1"}},
        "ComputeTopology": {"Memory": {"SizeInMB": 256, "AllowOvercommit": True}, "Processor": {"Count": 1}},
        "Devices": {
            "Scsi": {"df6d0690-79e5-55b6-a5ec-c1e2f77f580a": {"Attachments": {}}},
            "HvSocket": {
                "HvSocketConfig": {
                    "DefaultBindSecurityDescriptor": "D:P(A;;FA;;;SY)(A;;FA;;;S-1-5-21-1-2-3-1001)",
                    "DefaultConnectSecurityDescriptor": "D:P(A;;FA;;;SY)(A;;FA;;;S-1-5-21-1-2-3-1001)",
                }
            },
            "Plan9": {},
        },
    },
}


def until(condition):
    """Wait for what comes by itself."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The path of the library, built for this session."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("the stand-in's library is built on Linux, with a C compiler")
    return build.build_library(tmp_path_factory.mktemp("hcs"))


@pytest.fixture(scope="session")
def _core(library):
    return ComputeCore(library)


@pytest.fixture
def core(_core, monkeypatch):
    """The library in this process, without a bridge. What a test that failed left open is closed."""
    for name in list(os.environ):
        if name.startswith("PROPOLIS_HCS_"):
            monkeypatch.delenv(name)
    yield _core
    for system in list(_core.systems):
        _core.close(system)
    assert _core.enumerate().document == []


@pytest.fixture
def faults(monkeypatch):
    """Order failures: what is given is what PROPOLIS_HCS_FAULTS says."""

    def order(**entries):
        # a text that no test had before, so that its counters begin anew
        padding = " " * (uuid.uuid4().int % 5000)
        monkeypatch.setenv("PROPOLIS_HCS_FAULTS", json.dumps(entries) + padding)

    return order


@pytest.fixture
def vm_id():
    return str(uuid.uuid4())


@pytest.fixture
def document(core, tmp_path, vm_id):
    """A document that is right: its kernel is there and granted."""
    kernel = tmp_path / "vmlinux"
    kernel.write_bytes(b"\x7fELF")
    assert core.grant(vm_id, kernel) == 0
    document = copy.deepcopy(BASE)
    document["VirtualMachine"]["Chipset"]["LinuxKernelDirect"]["KernelFilePath"] = str(kernel)
    return document


@pytest.fixture
def system(core, document, vm_id):
    """A system that was created; closed at the end."""
    system, result = core.create(vm_id, document)
    assert result.code == 0, result
    yield system
    core.close(system)


@pytest.fixture
def refusal(core, document, vm_id):
    """Change the document and have it refused; returns the result."""

    def refuse(change):
        changed = copy.deepcopy(document)
        change(changed)
        system, result = core.create(vm_id, changed)
        assert system is not None
        core.close(system)
        return result

    return refuse
