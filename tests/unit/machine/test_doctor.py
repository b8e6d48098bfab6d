import subprocess
import sys

import pytest

from propolis.errors import BackendError
from propolis.hypervisor import registry
from propolis.machine.doctor import examine, mend
from propolis.preflight.checks import Verdict
from propolis.state.record import MachineRecord, ProcessIdentity
from propolis.state.store import MachineStore
from propolis.testing.backend import MemoryBackend


class Swept(MemoryBackend):
    def sweep(self):
        return ("machine of a dead process: ended",)

    def holds(self, machine_id):
        return False


class Stuck(MemoryBackend):
    def sweep(self):
        raise BackendError("it does not say")

    def holds(self, machine_id):
        return machine_id == "held"


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("PROPOLIS_DATA", str(tmp_path))
    return MachineStore(tmp_path)


def test_what_dead_processes_left_is_removed_and_told(store, monkeypatch):
    monkeypatch.setattr(registry, "_BUILT_IN", {"swept": Swept, "stuck": Stuck, "memory": MemoryBackend})
    directory = store.machines / "x"
    store.add(
        MachineRecord(id="x", name="x", image="i", directory=directory, owner=ProcessIdentity(pid=_dead(), start="0"))
    )
    directory.mkdir(parents=True)
    told = mend()
    assert told[:2] == ["machine of a dead process: ended", "backend stuck: it does not say"]
    assert told[-1].endswith("removed: 1")
    assert store.list() == []
    assert not directory.exists()


def test_a_machine_that_a_hypervisor_did_not_end_keeps_its_directory_and_is_told(store, monkeypatch):
    monkeypatch.setattr(registry, "_BUILT_IN", {"swept": Swept, "stuck": Stuck, "memory": MemoryBackend})
    owner = ProcessIdentity(pid=_dead(), start="0")
    for machine_id in ("held", "gone"):
        directory = store.machines / machine_id
        store.add(MachineRecord(id=machine_id, name=machine_id, image="i", directory=directory, owner=owner), bool)
        directory.mkdir(parents=True)
    (check,) = [check for check in examine() if check.name == "machines"]
    assert (check.verdict, check.remedy) == (Verdict.WARNING, "propolis doctor --fix")
    told = mend()
    assert told[-2:] == [
        f"machine held of a dead process is still in use, so {store.machines / 'held'} stays",
        "machines of dead processes removed: 1",
    ]
    assert [record.id for record in store.dead()] == ["held"]
    assert (store.machines / "held").exists()
    monkeypatch.setattr(Stuck, "holds", lambda *_: False)
    assert mend()[-1].endswith("removed: 1")
    assert not [check for check in examine() if check.name == "machines"]


def _dead():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid
