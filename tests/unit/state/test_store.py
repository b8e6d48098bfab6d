import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from propolis.errors import InvalidArgument, MachineNotFound, NameInUse, StateError
from propolis.state.record import MachineRecord, ProcessIdentity
from propolis.state.store import MachineStore, is_running, this_process


def record(store, number=0, **changes):
    machine_id = f"m{number}"
    values = {
        "id": machine_id,
        "name": f"name{number}",
        "image": "oci:x",
        "directory": store.machines / machine_id,
        "owner": this_process(),
    }
    return MachineRecord(**(values | changes))


@pytest.fixture
def store(tmp_path):
    return MachineStore(tmp_path / "data")


def test_what_is_added_is_listed_until_it_is_removed(store):
    machine = record(store)
    store.add(machine)
    machine.directory.mkdir(parents=True)
    (machine.directory / "disk").write_bytes(b"x")
    assert store.list() == [machine]
    store.remove(machine)
    store.remove(machine)
    assert store.list() == []
    assert not machine.directory.exists()


def test_asking_writes_nothing(store, tmp_path):
    assert store.list() == store.living() == []
    with pytest.raises(MachineNotFound):
        store.find("web")
    assert not list(tmp_path.iterdir())


def test_two_living_machines_cannot_share_a_name(store):
    store.add(record(store, 0, name="web"))
    with pytest.raises(NameInUse, match="web"):
        store.add(record(store, 1, name="web"))


def test_the_next_machine_sweeps_what_a_dead_owner_left(store):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = record(store, 0, name="web", owner=ProcessIdentity(pid=dead.pid, start="long ago"))
    store.add(left)
    left.directory.mkdir(parents=True)
    store.add(record(store, 1, name="web"))
    assert [machine.id for machine in store.list()] == ["m1"]
    assert not left.directory.exists()


def test_what_a_hypervisor_holds_stays_until_it_does_not_and_its_name_is_free(store):
    left = record(store, 0, name="web", owner=ProcessIdentity(pid=1, start="long ago"))
    store.add(left)
    left.directory.mkdir(parents=True)
    store.add(record(store, 1, name="web"), lambda machine_id: machine_id == "m0")
    assert left.directory.exists()
    assert [machine.id for machine in store.dead()] == ["m0"]
    assert [machine.name for machine in store.living()] == ["web"]
    assert store.sweep() == 1
    assert not left.directory.exists()
    assert [machine.id for machine in store.list()] == ["m1"]


def test_a_directory_that_cannot_be_removed_is_not_forgotten(store, monkeypatch):
    machine = record(store, 0, name="web")
    store.add(machine)
    machine.directory.mkdir(parents=True)
    with monkeypatch.context() as held:
        held.setattr("propolis.state.store.system.remove_tree", lambda path: None)
        assert not store.remove(machine)
    assert store.living() == []
    store.add(record(store, 1, name="web"))
    assert not machine.directory.exists()
    assert [left.id for left in store.list()] == ["m1"]


def test_a_sweep_ends_what_still_runs_of_a_dead_owners_machine(store):
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as vmm:
        left = record(store, 0, owner=ProcessIdentity(pid=vmm.pid, start="another process with this pid"))
        store.add(left)
        store.set_vmm(left.id, this_process_of(vmm.pid))
        assert store.sweep() == 1
        assert vmm.wait(10) != 0


def test_a_sweep_spares_a_process_that_only_has_the_same_pid(store):
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as bystander:
        left = record(store, 0, owner=ProcessIdentity(pid=bystander.pid, start="before"))
        store.add(left)
        store.set_vmm(left.id, ProcessIdentity(pid=bystander.pid, start="before"))
        store.sweep()
        assert bystander.poll() is None
        bystander.kill()


def this_process_of(pid):
    from propolis.host import system

    return ProcessIdentity(pid=pid, start=system.process_start(pid))


def test_a_process_is_told_from_a_later_one_with_its_pid():
    me = this_process()
    assert is_running(me)
    assert not is_running(ProcessIdentity(pid=me.pid, start="earlier"))


def test_many_at_once_from_nothing(tmp_path):
    def add(number):
        store = MachineStore(tmp_path / "data")
        store.add(record(store, number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert len(MachineStore(tmp_path / "data").list()) == 40


def test_records_of_a_later_version_are_left_alone(store):
    store.add(record(store))
    with sqlite3.connect(store._path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StateError, match="another version"):
        store.list()


def test_a_damaged_database_is_told_with_a_way_out(store):
    store._path.parent.mkdir(parents=True)
    store._path.write_bytes(b"not a database" * 100)
    with pytest.raises(StateError) as caught:
        store.list()
    assert str(store._path) in caught.value.hint


def test_machines_are_found_by_name_id_and_the_beginning_of_an_id(store):
    for number, (machine_id, name) in enumerate([("abc1", "web"), ("abd2", "abc1x"), ("ffff", "abd")]):
        store.add(record(store, number, id=machine_id, name=name))
    for wanted, found in [("web", "abc1"), ("abc1", "abc1"), ("abd2", "abd2"), ("abc", "abc1"), ("abd", "ffff")]:
        assert store.find(wanted).id == found
    for wanted in ("", "none", "abc12"):
        with pytest.raises(MachineNotFound, match="no machine"):
            store.find(wanted)
    with pytest.raises(InvalidArgument, match="2 machines"):
        store.find("ab")


def test_a_machine_whose_owner_is_dead_is_not_found(store):
    store.add(record(store, 0, name="web", owner=ProcessIdentity(pid=1, start="long ago")))
    assert len(store.list()) == 1
    assert not store.living()
    with pytest.raises(MachineNotFound):
        store.find("web")
