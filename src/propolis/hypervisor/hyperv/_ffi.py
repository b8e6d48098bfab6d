"""computecore.dll, the library of the Host Compute Service, by ctypes: declarations and conversions, no policy.

Prototypes, enumerations and structures follow computecore.h and computedefs.h of the Windows SDK. Every export has one
method, which returns the HRESULT as an unsigned number, with the result document where there is one; nothing here
raises for what Windows answers. Exports are looked up when they are first called, as older Windows lacks some.

A handle may not be closed while another thread is inside a call with it: computecore then touches freed memory. Strings
are `wchar_t` of the system the library was built for, so the library of the tests loads on Linux, too.
"""

import ctypes
import sys
from collections.abc import Callable
from ctypes import POINTER, byref, c_int, c_int32, c_uint32, c_uint64, c_void_p, c_wchar_p
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NewType

from propolis.errors import BackendUnavailable

LIBRARY = "computecore.dll"
INFINITE = 0xFFFFFFFF
GENERIC_ALL = 0x10000000
_LOAD_LIBRARY_SEARCH_SYSTEM32 = 0x800

System = NewType("System", int)
Operation = NewType("Operation", int)


class EventType(IntEnum):
    """HCS_EVENT_TYPE, as far as a virtual machine sends them."""

    SYSTEM_EXITED = 1
    SYSTEM_CRASH_INITIATED = 2
    SYSTEM_CRASH_REPORT = 3
    SERVICE_DISCONNECT = 0x02000000


class HCS_EVENT(ctypes.Structure):
    """What a callback is given; valid only while it runs."""

    _fields_ = [("Type", c_uint32), ("EventData", c_wchar_p), ("Operation", c_void_p)]


if sys.platform == "win32":
    _CALLBACK = ctypes.WINFUNCTYPE
else:
    _CALLBACK = ctypes.CFUNCTYPE
HCS_EVENT_CALLBACK = _CALLBACK(None, POINTER(HCS_EVENT), c_void_p)
HCS_OPERATION_COMPLETION = _CALLBACK(None, c_void_p, c_void_p)

_HRESULT, _PWSTR = c_int32, POINTER(c_void_p)
_REQUEST = (_HRESULT, (c_void_p, c_void_p, c_wchar_p))
_1809, _2004, _2104 = "Windows 10 1809", "Windows 10 2004", "Windows 11 or Server 2022"

PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...], str]] = {
    "HcsCreateOperation": (c_void_p, (c_void_p, HCS_OPERATION_COMPLETION), _1809),
    "HcsCloseOperation": (None, (c_void_p,), _1809),
    "HcsGetOperationContext": (c_void_p, (c_void_p,), _1809),
    "HcsSetOperationContext": (_HRESULT, (c_void_p, c_void_p), _1809),
    "HcsGetComputeSystemFromOperation": (c_void_p, (c_void_p,), _1809),
    "HcsGetOperationType": (c_int, (c_void_p,), _1809),
    "HcsGetOperationId": (c_uint64, (c_void_p,), _1809),
    "HcsGetOperationResult": (_HRESULT, (c_void_p, _PWSTR), _1809),
    "HcsWaitForOperationResult": (_HRESULT, (c_void_p, c_uint32, _PWSTR), _1809),
    "HcsSetOperationCallback": (_HRESULT, (c_void_p, c_void_p, HCS_OPERATION_COMPLETION), _1809),
    "HcsCancelOperation": (_HRESULT, (c_void_p,), _1809),
    "HcsEnumerateComputeSystems": (_HRESULT, (c_wchar_p, c_void_p), _1809),
    "HcsCreateComputeSystem": (_HRESULT, (c_wchar_p, c_wchar_p, c_void_p, c_void_p, POINTER(c_void_p)), _1809),
    "HcsOpenComputeSystem": (_HRESULT, (c_wchar_p, c_uint32, POINTER(c_void_p)), _1809),
    "HcsCloseComputeSystem": (None, (c_void_p,), _1809),
    "HcsStartComputeSystem": (*_REQUEST, _1809),
    "HcsShutDownComputeSystem": (*_REQUEST, _1809),
    "HcsTerminateComputeSystem": (*_REQUEST, _1809),
    "HcsCrashComputeSystem": (*_REQUEST, _1809),
    "HcsPauseComputeSystem": (*_REQUEST, _1809),
    "HcsResumeComputeSystem": (*_REQUEST, _1809),
    "HcsSaveComputeSystem": (*_REQUEST, _1809),
    "HcsGetComputeSystemProperties": (*_REQUEST, _1809),
    "HcsModifyComputeSystem": (_HRESULT, (c_void_p, c_void_p, c_wchar_p, c_void_p), _1809),
    "HcsSetComputeSystemCallback": (_HRESULT, (c_void_p, c_uint32, c_void_p, HCS_EVENT_CALLBACK), _1809),
    "HcsWaitForComputeSystemExit": (_HRESULT, (c_void_p, c_uint32, _PWSTR), _2104),
    "HcsGetServiceProperties": (_HRESULT, (c_wchar_p, _PWSTR), _1809),
    "HcsModifyServiceSettings": (_HRESULT, (c_wchar_p, _PWSTR), _1809),
    "HcsGrantVmAccess": (_HRESULT, (c_wchar_p, c_wchar_p), _1809),
    "HcsRevokeVmAccess": (_HRESULT, (c_wchar_p, c_wchar_p), _1809),
    "HcsGrantVmGroupAccess": (_HRESULT, (c_wchar_p,), _2004),
    "HcsRevokeVmGroupAccess": (_HRESULT, (c_wchar_p,), _2004),
    "HcsCreateEmptyGuestStateFile": (_HRESULT, (c_wchar_p,), _1809),
    "HcsCreateEmptyRuntimeStateFile": (_HRESULT, (c_wchar_p,), _1809),
}
"""Each export: what it returns, what it takes, and which Windows has it first."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to: its HRESULT, unsigned, and the document that came with it."""

    code: int
    document: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the HRESULT says success."""
        return self.code < 0x80000000


class ComputeCore:
    """The loaded library. Calls may come from any thread; they release the interpreter's lock while they run."""

    def __init__(self, path: str | None = None) -> None:
        """Load `path`, or the library of System32.

        Raises:
            BackendUnavailable: it is not there, or cannot be loaded.
        """
        self._functions: dict[str, Any] = {}
        try:
            self._library, free = _load(path)
        except (OSError, AttributeError) as error:
            raise BackendUnavailable(
                f"{path or LIBRARY} cannot be loaded, so this Windows has no Host Compute Service: {error}",
                hint="enable it in an elevated prompt and restart: "
                "dism /online /enable-feature /featurename:VirtualMachinePlatform /all",
            ) from error
        free.restype, free.argtypes = c_void_p, (c_void_p,)
        self._free = free

    def has(self, name: str) -> bool:
        """Whether the library exports `name`."""
        return hasattr(self._library, name)

    def create_operation(self) -> Operation | None:
        """HcsCreateOperation without context or callback; None when it failed."""
        operation = self._function("HcsCreateOperation")(None, HCS_OPERATION_COMPLETION())
        return Operation(operation) if operation else None

    def close_operation(self, operation: Operation) -> None:
        """HcsCloseOperation: also of one whose request still runs, which goes on unwatched."""
        self._function("HcsCloseOperation")(operation)

    def wait_for_operation(self, operation: Operation, milliseconds: int) -> Outcome:
        """HcsWaitForOperationResult: the request's own result, or HCS_E_OPERATION_TIMEOUT while it still runs."""
        return self._with_document("HcsWaitForOperationResult", operation, milliseconds)

    def operation_result(self, operation: Operation) -> Outcome:
        """HcsGetOperationResult, which does not wait."""
        return self._with_document("HcsGetOperationResult", operation)

    def cancel_operation(self, operation: Operation) -> int:
        """HcsCancelOperation."""
        return self._code("HcsCancelOperation", operation)

    def operation_type(self, operation: Operation) -> int:
        """HcsGetOperationType."""
        return int(self._function("HcsGetOperationType")(operation))

    def operation_id(self, operation: Operation) -> int:
        """HcsGetOperationId."""
        return int(self._function("HcsGetOperationId")(operation))

    def enumerate_systems(self, query: str | None, operation: Operation) -> int:
        """HcsEnumerateComputeSystems."""
        return self._code("HcsEnumerateComputeSystems", query, operation)

    def create_system(self, identity: str, document: str, operation: Operation) -> tuple[int, System | None]:
        """HcsCreateComputeSystem."""
        system = c_void_p()
        code = self._code("HcsCreateComputeSystem", identity, document, operation, None, byref(system))
        return code, System(system.value) if system.value else None

    def open_system(self, identity: str) -> tuple[int, System | None]:
        """HcsOpenComputeSystem with all rights."""
        system = c_void_p()
        code = self._code("HcsOpenComputeSystem", identity, GENERIC_ALL, byref(system))
        return code, System(system.value) if system.value else None

    def close_system(self, system: System) -> None:
        """HcsCloseComputeSystem; waits for callbacks that run, so it may not be called from one."""
        self._function("HcsCloseComputeSystem")(system)

    def start_system(self, system: System, operation: Operation, options: str | None = None) -> int:
        """HcsStartComputeSystem."""
        return self._code("HcsStartComputeSystem", system, operation, options)

    def shut_down_system(self, system: System, operation: Operation, options: str | None = None) -> int:
        """HcsShutDownComputeSystem."""
        return self._code("HcsShutDownComputeSystem", system, operation, options)

    def terminate_system(self, system: System, operation: Operation, options: str | None = None) -> int:
        """HcsTerminateComputeSystem."""
        return self._code("HcsTerminateComputeSystem", system, operation, options)

    def crash_system(self, system: System, operation: Operation, options: str | None = None) -> int:
        """HcsCrashComputeSystem."""
        return self._code("HcsCrashComputeSystem", system, operation, options)

    def pause_system(self, system: System, operation: Operation, options: str | None = None) -> int:
        """HcsPauseComputeSystem."""
        return self._code("HcsPauseComputeSystem", system, operation, options)

    def resume_system(self, system: System, operation: Operation, options: str | None = None) -> int:
        """HcsResumeComputeSystem."""
        return self._code("HcsResumeComputeSystem", system, operation, options)

    def save_system(self, system: System, operation: Operation, options: str | None = None) -> int:
        """HcsSaveComputeSystem."""
        return self._code("HcsSaveComputeSystem", system, operation, options)

    def system_properties(self, system: System, operation: Operation, query: str | None = None) -> int:
        """HcsGetComputeSystemProperties."""
        return self._code("HcsGetComputeSystemProperties", system, operation, query)

    def modify_system(self, system: System, operation: Operation, request: str, token: int | None = None) -> int:
        """HcsModifyComputeSystem, with the access token that the change is to be made with."""
        return self._code("HcsModifyComputeSystem", system, operation, request, token)

    def set_system_callback(self, system: System, take: Callable[[int, str | None], None]) -> tuple[int, object]:
        """HcsSetComputeSystemCallback; `take` gets type and data of each event, in a thread of the library.

        Returns the HRESULT and what must be kept alive until the system has been closed. `take` may not raise.
        """

        def called(event: Any, _context: Any) -> None:
            take(int(event.contents.Type), event.contents.EventData)

        callback = HCS_EVENT_CALLBACK(called)
        return self._code("HcsSetComputeSystemCallback", system, 0, None, callback), callback

    def wait_for_exit(self, system: System, milliseconds: int) -> Outcome:
        """HcsWaitForComputeSystemExit, which Windows 10 lacks."""
        return self._with_document("HcsWaitForComputeSystemExit", system, milliseconds)

    def service_properties(self, query: str | None) -> Outcome:
        """HcsGetServiceProperties."""
        return self._with_document("HcsGetServiceProperties", query)

    def modify_service(self, settings: str) -> Outcome:
        """HcsModifyServiceSettings."""
        return self._with_document("HcsModifyServiceSettings", settings)

    def grant_access(self, identity: str, path: str) -> int:
        """HcsGrantVmAccess."""
        return self._code("HcsGrantVmAccess", identity, path)

    def revoke_access(self, identity: str, path: str) -> int:
        """HcsRevokeVmAccess."""
        return self._code("HcsRevokeVmAccess", identity, path)

    def grant_group_access(self, path: str) -> int:
        """HcsGrantVmGroupAccess."""
        return self._code("HcsGrantVmGroupAccess", path)

    def revoke_group_access(self, path: str) -> int:
        """HcsRevokeVmGroupAccess."""
        return self._code("HcsRevokeVmGroupAccess", path)

    def create_empty_runtime_state(self, path: str) -> int:
        """HcsCreateEmptyRuntimeStateFile."""
        return self._code("HcsCreateEmptyRuntimeStateFile", path)

    def create_empty_guest_state(self, path: str) -> int:
        """HcsCreateEmptyGuestStateFile."""
        return self._code("HcsCreateEmptyGuestStateFile", path)

    def _code(self, name: str, *arguments: Any) -> int:
        return int(self._function(name)(*arguments)) & 0xFFFFFFFF

    def _with_document(self, name: str, *arguments: Any) -> Outcome:
        pointer = c_void_p()
        code = self._code(name, *arguments, byref(pointer))
        if not pointer.value:
            return Outcome(code)
        try:
            return Outcome(code, ctypes.wstring_at(pointer.value))
        finally:
            self._free(pointer)

    def _function(self, name: str) -> Any:
        function = self._functions.get(name)
        if function is None:
            restype, argtypes, first = PROTOTYPES[name]
            try:
                # an object of our own: what the library hands out for a name is shared with whoever else loaded it
                function = self._library[name]
            except AttributeError as error:
                raise BackendUnavailable(
                    f"the Host Compute Service of this Windows is too old: {LIBRARY} has no {name}",
                    hint=f"that needs {first}; update Windows",
                ) from error
            function.restype, function.argtypes = restype, argtypes
            self._functions[name] = function
        return function


def _load(path: str | None) -> tuple[Any, Any]:
    """The library and the function that frees its result documents."""
    if sys.platform == "win32":
        kernel32 = ctypes.WinDLL("kernel32")
        if path is None:
            return ctypes.WinDLL(LIBRARY, winmode=_LOAD_LIBRARY_SEARCH_SYSTEM32), kernel32["LocalFree"]
        return ctypes.WinDLL(path), kernel32["LocalFree"]
    library = ctypes.CDLL(path or LIBRARY)
    return library, library["LocalFree"]
