"""Failures on demand come where and as they were ordered."""

import pytest

from hcs.conftest import until

FUNCTIONS = {
    "HcsCreateComputeSystem": lambda core, system: core.create("other", "{}")[1],
    "HcsStartComputeSystem": lambda core, system: core.start(system),
    "HcsTerminateComputeSystem": lambda core, system: core.terminate(system),
    "HcsGetComputeSystemProperties": lambda core, system: core.properties(system),
    "HcsModifyComputeSystem": lambda core, system: core.modify(system, {}),
    "HcsPauseComputeSystem": lambda core, system: core.do("HcsPauseComputeSystem", system, None),
    "HcsEnumerateComputeSystems": lambda core, system: core.enumerate(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_at_each_call(core, system, faults, name):
    faults(**{name: {"hresult": "0x800705AA", "document": {"Error": -1, "ErrorMessage": "ordered"}}})
    result = FUNCTIONS[name](core, system)
    assert (result.code, result.document["ErrorMessage"]) == (0x800705AA, "ordered")
    faults(**{name: {"hresult": "0x8037011B", "immediate": True}})
    result = FUNCTIONS[name](core, system)
    assert (result.code, result.document) == (0x8037011B, None)
    faults()


@pytest.mark.parametrize("name", ["HcsOpenComputeSystem", "HcsGetServiceProperties", "HcsGrantVmAccess"])
def test_calls_without_an_operation(core, tmp_path, faults, vm_id, name):
    faults(**{name: {"hresult": "0x8037011B", "times": 1}})
    calls = {
        "HcsOpenComputeSystem": lambda: core.open(vm_id)[0],
        "HcsGetServiceProperties": lambda: core.service().code,
        "HcsGrantVmAccess": lambda: core.grant(vm_id, tmp_path),
    }
    assert calls[name]() == 0x8037011B
    assert calls[name]() != 0x8037011B


def test_counted(core, system, faults):
    faults(HcsGetComputeSystemProperties=[{"hresult": "0x80370114", "skip": 1, "times": 2}, {"hresult": 5, "times": 1}])
    codes = [core.properties(system).code for _ in range(5)]
    assert codes == [5, 0x80370114, 0x80370114, 0, 0]


def test_an_operation_that_never_ends(core, system, faults):
    faults(HcsStartComputeSystem={"never": True})
    operation = core.operation()
    assert core.call("HcsStartComputeSystem", system, operation, None) == 0
    assert core.wait(operation, 50).code == 0x80370118
    core.close_operation(operation)


def test_the_service_dies(core, document, vm_id, faults):
    system, _ = core.create(vm_id, document)
    told = []
    assert core.listen(system, lambda kind, text: told.append((kind, text))) == 0
    faults(HcsStartComputeSystem={"disconnect": True})
    assert core.start(system).code == 0x8037011E
    assert core.properties(system).code == 0x8037011E
    assert core.terminate(system).code == 0x8037011E
    assert core.wait_for_exit(system).code == 0x8037011E
    until(lambda: told == [(0x02000000, None)])
    core.close(system)


@pytest.mark.parametrize(
    ("guest", "kinds", "exit_type"),
    [
        ("crash", [2, 3, 1], "UnexpectedExit"),
        ("exit", [1], "GracefulExit"),
        ({"event": "triple-fault", "after_ms": 1}, [1], "UnexpectedExit"),
    ],
)
def test_fates_of_guests(core, system, faults, guest, kinds, exit_type):
    told = []
    assert core.listen(system, lambda kind, _text: told.append(kind)) == 0
    faults(guest=guest)
    assert core.start(system).code == 0
    assert core.wait_for_exit(system).document["ExitType"] == exit_type
    until(lambda: told == kinds)


def test_a_guest_that_takes_the_service_along(core, document, vm_id, faults):
    system, _ = core.create(vm_id, document)
    faults(guest="service-disconnect")
    assert core.start(system).code == 0
    assert core.wait_for_exit(system).code == 0x8037011E
    core.close(system)
