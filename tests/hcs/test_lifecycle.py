"""The state machine of compute systems, their events, and the operations that carry requests."""

import json
import threading
import time

import pytest

from hcs.computecore import Result
from hcs.conftest import until

NOT_STARTED, ALREADY_STARTED, PENDING, TIMEOUT = 0x80370115, 0x80370116, 0x80370117, 0x80370118
INVALID_STATE, ALREADY_EXISTS, ALREADY_STOPPED, NOT_FOUND = 0x80370105, 0x8037010F, 0x80370110, 0x8037010E
EXITED, CRASH_INITIATED, CRASH_REPORT, OPERATION_CALLBACK = 1, 2, 3, 0x01000000


@pytest.fixture
def events(core, system):
    """What the system's callback was told, in order."""
    told = []
    assert core.listen(system, lambda kind, text: told.append((kind, json.loads(text) if text else None))) == 0
    return told


def test_from_creation_to_a_forced_end(core, system, events, vm_id):
    assert core.properties(system).document["State"] == "Created"
    assert core.start(system).code == 0
    properties = core.properties(system).document
    assert properties["State"] == "Running"
    assert (properties["Id"], properties["RuntimeId"], properties["Owner"]) == (vm_id, vm_id, "propolis")
    assert core.terminate(system).code == 0
    until(lambda: events)
    assert events[0][0] == EXITED
    assert events[0][1]["ExitType"] == "ForcedExit"
    assert core.wait_for_exit(system, 0) == Result(0, events[0][1])


def test_what_each_state_allows(core, system, tmp_path):
    save = json.dumps({"SaveType": "ToFile", "SaveStateFilePath": str(tmp_path / "state.vmrs")})
    for name in ("Pause", "Resume", "Crash", "ShutDown"):
        assert core.do(f"Hcs{name}ComputeSystem", system, None).code == INVALID_STATE, name
    assert core.start(system).code == 0
    assert core.start(system).code == INVALID_STATE
    assert core.do("HcsSaveComputeSystem", system, save).code == INVALID_STATE
    assert core.do("HcsResumeComputeSystem", system, None).code == INVALID_STATE
    assert core.do("HcsPauseComputeSystem", system, None).code == 0
    assert core.properties(system).document["State"] == "Paused"
    assert core.do("HcsPauseComputeSystem", system, None).code == INVALID_STATE
    assert core.do("HcsSaveComputeSystem", system, None).code == 0x80070057
    assert core.do("HcsSaveComputeSystem", system, save).code == 0
    assert (tmp_path / "state.vmrs").exists()
    assert core.do("HcsResumeComputeSystem", system, None).code == 0
    assert core.terminate(system).code == 0
    for name in ("Start", "Terminate", "Pause", "Resume", "Save", "Crash", "ShutDown", "Modify"):
        arguments = (None, None) if name == "Modify" else (None,)
        assert core.do(f"Hcs{name}ComputeSystem", system, *arguments).code == ALREADY_STOPPED, name
    assert core.properties(system).code == ALREADY_STOPPED


def test_ids_are_not_used_twice(core, system, document, vm_id):
    second, result = core.create(vm_id, document)
    assert result.code == ALREADY_EXISTS
    core.close(second)
    assert core.properties(system).code == 0


def test_shut_down_needs_a_service_in_the_guest(core, document, vm_id, monkeypatch):
    document["VirtualMachine"]["Services"] = {"Shutdown": {}}
    system, result = core.create(vm_id, document)
    assert result.code == 0
    options = json.dumps({"Mechanism": "IntegrationService", "Type": "Shutdown"})
    assert core.start(system).code == 0
    assert core.do("HcsShutDownComputeSystem", system, None).code == 0x80070032
    monkeypatch.setenv("PROPOLIS_HCS_BUILD", "19045")
    assert core.do("HcsShutDownComputeSystem", system, options).code == 0x8037010D
    monkeypatch.delenv("PROPOLIS_HCS_BUILD")
    assert core.do("HcsShutDownComputeSystem", system, options).code == 0
    assert core.wait_for_exit(system).document["ExitType"] == "GracefulExit"
    core.close(system)


def test_crash(core, system, events):
    assert core.start(system).code == 0
    assert core.do("HcsCrashComputeSystem", system, json.dumps({"Type": "CrashGuest"})).code == 0
    until(lambda: len(events) == 3)
    assert [kind for kind, _ in events] == [CRASH_INITIATED, CRASH_REPORT, EXITED]
    assert "panic" in events[1][1]["CrashLog"]
    assert events[2][1]["ExitType"] == "UnexpectedExit"
    assert "GuestCrash" in events[2][1]["Attribution"][0]


def test_old_windows_says_less_of_an_exit(core, system, events, monkeypatch):
    monkeypatch.setenv("PROPOLIS_HCS_BUILD", "19045")
    assert core.start(system).code == 0
    assert core.do("HcsCrashComputeSystem", system, None).code == 0
    until(lambda: len(events) == 3)
    assert set(events[2][1]) == {"Status", "ExitType"}


def test_a_callback_that_is_registered_late_is_told_nothing(core, system):
    assert core.start(system).code == 0
    assert core.terminate(system).code == 0
    told = []
    assert core.listen(system, lambda kind, _text: told.append(kind)) == 0
    time.sleep(0.05)
    assert told == []


def test_last_handle(core, document, vm_id):
    system, _ = core.create(vm_id, document)
    code, second = core.open(vm_id)
    assert code == 0
    assert core.start(second).code == 0
    core.close(system)
    assert core.properties(second).document["State"] == "Running"
    core.close(second)
    assert core.enumerate().document == []
    assert core.open(vm_id) == (NOT_FOUND, None)


def test_a_system_that_outlives_its_handles(core, document, vm_id):
    document["ShouldTerminateOnLastHandleClosed"] = False
    system, _ = core.create(vm_id, document)
    assert core.start(system).code == 0
    core.close(system)
    assert [(entry["Id"], entry["State"]) for entry in core.enumerate().document] == [(vm_id, "Running")]
    assert core.open(vm_id, access=1)[0] == 0x80070005
    code, again = core.open(vm_id)
    assert code == 0
    assert core.terminate(again).code == 0
    core.close(again)


def test_enumeration(core, system, vm_id):
    def ids(**query):
        return [entry["Id"] for entry in core.enumerate(query).document]

    assert ids() == ids(Owners=["propolis"]) == ids(Owners=["WSL", "propolis"], Types=["VirtualMachine"]) == [vm_id]
    assert ids(Ids=[vm_id]) == [vm_id]
    assert ids(Owners=["WSL"]) == ids(Types=["Container"]) == ids(Ids=["x"]) == ids(Names=["x"]) == []
    assert core.enumerate({"Owner": ["propolis"]}).code == 0x8037010D
    assert core.enumerate({"Types": ["Machine"]}).code == 0x8037010D


def test_property_queries(core, system):
    query = {"PropertyTypes": ["Memory", "Statistics", "TerminateOnLastHandleClosed"]}
    document = core.properties(system, query).document
    assert document["Memory"]["VirtualMachineMemory"]["AvailableMemory"] == 256
    assert document["TerminateOnLastHandleClosed"] is True
    assert core.properties(system, {"PropertyTypes": ["Colour"]}).code == 0x8037010D


def test_an_operation_before_during_and_after(core, system, faults):
    operation = core.operation()
    assert core.result(operation).code == NOT_STARTED
    assert core.wait(operation).code == NOT_STARTED
    faults(HcsStartComputeSystem={"delay_ms": 200})
    assert core.call("HcsStartComputeSystem", system, operation, None) == 0
    assert core.result(operation).code == PENDING
    assert core.wait(operation, 10).code == TIMEOUT
    assert core.call("HcsPauseComputeSystem", system, operation, None) == ALREADY_STARTED
    assert core.call("HcsSetOperationCallback", operation, None, None) == ALREADY_STARTED
    assert core.wait(operation).code == 0
    assert core.result(operation).code == 0
    assert core.call("HcsGetOperationType", operation) == 2
    assert core.dll.HcsGetComputeSystemFromOperation(operation_pointer(operation)) == system
    assert core.call("HcsPauseComputeSystem", system, operation, None) == 0
    assert core.wait(operation).code == 0
    assert core.call("HcsCancelOperation", operation) == 0x80004001
    core.close_operation(operation)


def operation_pointer(operation):
    import ctypes

    return ctypes.c_void_p(operation)


def test_operations_that_tell(core, system):
    told = threading.Event()
    threads = []

    def done(_operation, context):
        threads.append(threading.get_ident())
        assert context == 42
        told.set()

    operation = core.operation(42, done)
    assert core.call("HcsStartComputeSystem", system, operation, None) == 0
    assert told.wait(5)
    assert threads != [threading.get_ident()]
    assert core.result(operation).code == 0
    core.close_operation(operation)


def test_one_kind_of_callback_excludes_the_other(core, system):
    told = []
    assert core.listen(system, lambda kind, _text: told.append(kind), options=1) == 0
    operation = core.operation(None, lambda _operation, _context: None)
    assert core.call("HcsStartComputeSystem", system, operation, None) == 0x80370119
    core.close_operation(operation)
    assert core.start(system).code == 0
    until(lambda: told == [OPERATION_CALLBACK])


def test_interest_in_an_operation_may_be_dropped(core, system):
    operation = core.operation()
    assert core.call("HcsStartComputeSystem", system, operation, None) == 0
    core.close_operation(operation)
    until(lambda: core.properties(system).document["State"] == "Running")


def test_close_waits_for_callbacks(core, document, vm_id):
    system, _ = core.create(vm_id, document)
    assert core.start(system).code == 0
    entered, left = threading.Event(), threading.Event()

    def slow(_kind, _text):
        entered.set()
        time.sleep(0.2)
        left.set()

    assert core.listen(system, slow) == 0
    assert core.terminate(system).code == 0
    assert entered.wait(5)
    core.close(system)
    assert left.is_set()


def test_missing_arguments(core, system, document, vm_id):
    assert core.do("HcsStartComputeSystem", None, None).code == 0x80070057
    assert core.call("HcsStartComputeSystem", system, None, None) == 0x80070057
    assert core.call("HcsEnumerateComputeSystems", None, None) == 0x80070057
    assert core.wait(None).code == 0x80070057
