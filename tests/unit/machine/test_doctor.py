import subprocess
import sys

import pytest

from propolis.errors import BackendError
from propolis.hypervisor import registry
from propolis.machine.doctor import mend
from propolis.state.record import MachineRecord, ProcessIdentity
from propolis.state.store import MachineStore
from propolis.testing.backend import MemoryBackend


class Swept(MemoryBackend):
    def sweep(self):
        return ("machine of a dead process: ended",)


class Stuck(MemoryBackend):
    def sweep(self):
        raise BackendError("it does not say")


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


def _dead():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid
