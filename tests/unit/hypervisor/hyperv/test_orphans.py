import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from hcs.bridge import Bridge
from propolis.errors import BackendError
from propolis.hypervisor.hyperv import document, orphans, requests
from propolis.hypervisor.hyperv.ledger import Ledger

OWNER = """
import json, os, pathlib, sys, time, uuid
from propolis.hypervisor.hyperv import requests
from propolis.hypervisor.hyperv._ffi import ComputeCore
from propolis.hypervisor.hyperv.ledger import Ledger
library, records, kernel, identity, description = sys.argv[1:]
core = ComputeCore(library)
Ledger(pathlib.Path(records)).write(uuid.UUID(identity), (kernel,))
assert core.grant_access(identity, kernel) == 0
made = []
def create(operation):
    code, system = core.create_system(identity, description, operation)
    made.append(system)
    return code
assert requests.perform(core, "HcsCreateComputeSystem", create).ok
print("made", flush=True)
time.sleep(600)
"""


@pytest.fixture
def bridge(tmp_path, monkeypatch):
    """Systems and rights outlive a process only where the bridge keeps them."""
    (tmp_path / "hvsockets").mkdir()
    (tmp_path / "machines").mkdir()
    with Bridge(tmp_path / "machines", hvsockets=tmp_path / "hvsockets") as bridge:
        monkeypatch.setenv("PROPOLIS_HCS_BRIDGE", str(bridge.port))
        yield bridge


@pytest.fixture
def owner(standin, tmp_path, bridge):
    """Start a process that owns a machine; it outlives its owner if the document does not say otherwise."""
    processes = []

    def start(*, dies_with_owner):
        kernel = tmp_path / "kernel"
        kernel.write_bytes(bytes(4096))
        identity = str(uuid.uuid4())
        description = {
            "Owner": "propolis",
            "SchemaVersion": {"Major": 2, "Minor": 3},
            "ShouldTerminateOnLastHandleClosed": dies_with_owner,
            "VirtualMachine": {
                "Chipset": {"LinuxKernelDirect": {"KernelFilePath": str(kernel), "KernelCmdLine": ""}},
                "ComputeTopology": {"Memory": {"SizeInMB": 256}, "Processor": {"Count": 1}},
            },
        }
        arguments = [standin, tmp_path / "records", kernel, identity, json.dumps(description)]
        processes.append(subprocess.Popen([sys.executable, "-c", OWNER, *arguments], stdout=subprocess.PIPE))
        assert processes[-1].stdout.readline() == b"made\n"
        return processes[-1], identity

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def ids(core):
    return [found["Id"] for found in requests.ours(core)]


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "records")


def test_the_machine_of_a_living_owner_is_left_alone(core, ledger, owner):
    _, identity = owner(dies_with_owner=False)
    assert orphans.sweep(core, ledger) == []
    assert ids(core) == [identity]


@pytest.mark.parametrize("dies_with_owner", [True, False])
def test_of_a_killed_owner_nothing_is_left(core, ledger, owner, bridge, dies_with_owner):
    process, identity = owner(dies_with_owner=dies_with_owner)
    kill(process)
    (told,) = orphans.sweep(core, ledger)
    assert identity in told
    assert ids(core) == []
    assert bridge.grants == []
    assert ledger.entries() == []
    assert orphans.sweep(core, ledger) == []


def test_a_machine_in_nobodys_ledger_is_another_data_directorys(core, owner, tmp_path):
    process, identity = owner(dies_with_owner=False)
    kill(process)
    assert orphans.sweep(core, Ledger(tmp_path / "other")) == []
    assert ids(core) == [identity]


@pytest.mark.parametrize("call", ["HcsOpenComputeSystem", "HcsTerminateComputeSystem"])
def test_one_that_cannot_be_ended_stays_written_and_is_ended_the_next_time(core, ledger, owner, faults, call):
    process, identity = owner(dies_with_owner=False)
    kill(process)
    faults(**{call: {"hresult": "0x80070005", "immediate": True, "times": 1}})
    (told,) = orphans.sweep(core, ledger)
    assert "cannot be ended" in told
    assert [entry.identity for entry in ledger.entries()] == [identity]
    (told,) = orphans.sweep(core, ledger)
    assert "ended" in told
    assert (ids(core), ledger.entries()) == ([], [])


def test_a_service_that_does_not_list_is_an_error(core, ledger, owner, faults):
    process, _ = owner(dies_with_owner=False)
    kill(process)
    faults(HcsEnumerateComputeSystems={"hresult": "0x80370114", "immediate": True, "times": 1})
    with pytest.raises(BackendError, match="not available"):
        orphans.sweep(core, ledger)
    orphans.sweep(core, ledger)


def test_files_that_are_gone_do_not_stand_in_the_way(core, ledger, owner, tmp_path):
    process, _ = owner(dies_with_owner=True)
    kill(process)
    Path(tmp_path / "kernel").unlink()
    orphans.sweep(core, ledger)
    assert ledger.entries() == []


def test_the_backend_knows_which_machine_it_could_not_end(backend, owner, core, faults, ledger, tmp_path):
    """So that its directory stays; the next start ends it, and then the directory goes."""
    process, identity = owner(dies_with_owner=False)
    machine_id = "0123456789ab"
    mine = str(document.system_id(machine_id))
    assert not backend.holds(machine_id)
    ledger.write(uuid.UUID(mine), ())
    assert not backend.holds(machine_id), "its owner lives"
    kill(process)
    entry = json.loads((tmp_path / "records" / f"{identity}.json").read_text())
    (tmp_path / "records" / f"{mine}.json").write_text(json.dumps(entry | {"identity": mine, "files": []}))
    faults(HcsEnumerateComputeSystems={"hresult": "0x80370114", "immediate": True, "times": 1})
    with pytest.raises(BackendError):
        backend.sweep()
    assert backend.holds(machine_id)
    backend.sweep()
    assert not backend.holds(machine_id)


def test_the_backend_clears_up(backend, owner, bridge, core, ledger, monkeypatch):
    process, identity = owner(dies_with_owner=False)
    kill(process)
    monkeypatch.setattr("propolis.hypervisor.hyperv.backend.data_directory", lambda: pytest.fail("the user's own"))
    assert identity in ids(core)
    (told,) = backend.sweep()
    assert "ended" in told
    assert ids(core) == []
    assert bridge.grants == []
