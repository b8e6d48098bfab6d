import ctypes
import re
import threading
import uuid
from pathlib import Path

import pytest

from propolis.errors import BackendUnavailable
from propolis.hypervisor.hyperv import _ffi

HEADER = Path("/usr/share/mingw-w64/include/computecore.h")
C_TYPES = {
    "PCWSTR": ctypes.c_wchar_p,
    "DWORD": ctypes.c_uint32,
    "PWSTR*": ctypes.POINTER(ctypes.c_void_p),
    "HCS_SYSTEM*": ctypes.POINTER(ctypes.c_void_p),
    "HCS_EVENT_OPTIONS": ctypes.c_uint32,
    "HCS_EVENT_CALLBACK": _ffi.HCS_EVENT_CALLBACK,
    "HCS_OPERATION_COMPLETION": _ffi.HCS_OPERATION_COMPLETION,
    "HRESULT": ctypes.c_int32,
    "UINT64": ctypes.c_uint64,
    "HCS_OPERATION_TYPE": ctypes.c_int,
    "void": None,
}
"""Of the header; what is not here is a pointer."""


@pytest.mark.skipif(not HEADER.exists(), reason="mingw-w64's headers are not installed")
@pytest.mark.parametrize("name", _ffi.PROTOTYPES)
def test_a_prototype_is_the_one_of_the_header(name):
    declared = re.search(rf"^(\S+?\*?) WINAPI {name} \((.*)\);$", HEADER.read_text(), re.M)
    restype, parameters = declared.groups()
    kinds = [
        re.fullmatch(r"(?:const )?(\w+) (\**)\w+", parameter).expand(r"\1\2") for parameter in parameters.split(", ")
    ]
    found, argtypes, _ = _ffi.PROTOTYPES[name]
    assert found == C_TYPES.get(restype, ctypes.c_void_p)
    assert list(argtypes) == [C_TYPES.get(kind, ctypes.c_void_p) for kind in kinds]


def test_every_prototype_has_a_method(core):
    source = Path(_ffi.__file__).read_text()
    used = set(re.findall(r'(?:_function|_code|_with_document)\(\s*"(Hcs\w+)"', source))
    unused = set(_ffi.PROTOTYPES) - used
    assert unused == {
        "HcsGetOperationContext",
        "HcsSetOperationContext",
        "HcsGetComputeSystemFromOperation",
        "HcsSetOperationCallback",
    }


def test_an_event_has_the_layout_of_the_header():
    assert ctypes.sizeof(_ffi.HCS_EVENT) == 24
    assert (_ffi.HCS_EVENT.EventData.offset, _ffi.HCS_EVENT.Operation.offset) == (8, 16)


def test_a_missing_library_says_what_to_enable(tmp_path):
    with pytest.raises(BackendUnavailable, match="no Host Compute Service") as caught:
        _ffi.ComputeCore(str(tmp_path / "computecore.dll"))
    assert "VirtualMachinePlatform" in caught.value.hint


def test_a_file_that_is_no_library_says_so(tmp_path):
    (tmp_path / "computecore.dll").write_bytes(b"not a library")
    with pytest.raises(BackendUnavailable, match="cannot be loaded"):
        _ffi.ComputeCore(str(tmp_path / "computecore.dll"))


def test_a_missing_export_names_the_windows_that_has_it(core, monkeypatch):
    wait = "HcsWaitForComputeSystemExit"
    monkeypatch.setitem(_ffi.PROTOTYPES, "HcsWaitForComputeSystemExitSoon", _ffi.PROTOTYPES[wait])
    assert core.has(wait)
    assert not core.has("HcsWaitForComputeSystemExitSoon")
    with pytest.raises(BackendUnavailable, match="has no HcsWaitForComputeSystemExitSoon") as caught:
        core._function("HcsWaitForComputeSystemExitSoon")
    assert "Windows 11" in caught.value.hint


def test_codes_are_unsigned_and_documents_are_text(core):
    refused = core.open_system(str(uuid.uuid4()))
    assert refused == (0x8037010E, None)
    answered = core.service_properties('{"PropertyTypes":["Basic"]}')
    assert answered.ok
    assert "SupportedSchemaVersions" in answered.document


def test_an_operation_has_a_life_of_its_own(core):
    operation = core.create_operation()
    assert core.operation_type(operation) == -1
    assert core.operation_id(operation) >= 0
    assert core.operation_result(operation).code == 0x80370115
    assert core.enumerate_systems(None, operation) == 0
    outcome = core.wait_for_operation(operation, 5000)
    assert (outcome.code, outcome.document) == (0, "[]")
    assert core.operation_type(operation) == 0
    core.close_operation(operation)


def test_a_refused_document_comes_back_with_words(core):
    operation = core.create_operation()
    code, system = core.create_system(str(uuid.uuid4()), '{"Owner": "ä", "Nonsense": 1}', operation)
    assert code == 0
    outcome = core.wait_for_operation(operation, 5000)
    assert outcome.code == 0x8037010D
    assert "Nonsense" in outcome.document
    core.close_operation(operation)
    core.close_system(system)


def test_events_arrive_in_a_thread_of_the_library(core, config, faults):
    from propolis.hypervisor.hyperv import document, requests

    heard, done = [], threading.Event()

    def take(kind, data):
        heard.append((kind, data, threading.current_thread()))
        if kind == _ffi.EventType.SYSTEM_EXITED:
            done.set()

    identity = str(document.system_id(config.id))
    for path in (config.boot.kernel, config.boot.initramfs, config.disks[0].path):
        assert core.grant_access(identity, str(path)) == 0
    description = requests.encode(document.build(config, pipe="/nowhere", sid="S-1-5-18", windows=22631))
    operation = core.create_operation()
    code, system = core.create_system(identity, description, operation)
    assert (code, core.wait_for_operation(operation, 5000).ok) == (0, True)
    core.close_operation(operation)
    code, kept = core.set_system_callback(system, take)
    assert code == 0
    faults(guest="crash")
    assert requests.perform(core, "HcsStartComputeSystem", lambda op: core.start_system(system, op)).ok
    assert done.wait(10)
    core.close_system(system)
    del kept
    assert heard[-1][0] == _ffi.EventType.SYSTEM_EXITED
    assert "ExitType" in heard[-1][1]
    assert all(thread is not threading.current_thread() for _, _, thread in heard)
    for path in (config.boot.kernel, config.boot.initramfs, config.disks[0].path):
        core.revoke_access(identity, str(path))
