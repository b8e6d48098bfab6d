"""Calls of advapi32, kernel32 and ntdll that tell how a Windows is set up, spelled as in the Windows SDK. No policy.

Where a call reports failure, OSError with its `winerror` is raised.
"""

import sys

assert sys.platform == "win32"

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import wintypes

from propolis.host.win32._ffi import advapi32, declare, kernel32, ntdll

ERROR_SERVICE_DOES_NOT_EXIST = 1060
SC_MANAGER_CONNECT = 0x0001
SERVICE_QUERY_CONFIG, SERVICE_QUERY_STATUS = 0x0001, 0x0004
SERVICE_DISABLED = 4
SERVICE_RUNNING = 4
PF_SECOND_LEVEL_ADDRESS_TRANSLATION, PF_VIRT_FIRMWARE_ENABLED = 20, 21
IMAGE_FILE_MACHINE_AMD64, IMAGE_FILE_MACHINE_ARM64 = 0x8664, 0xAA64
LOAD_LIBRARY_SEARCH_SYSTEM32 = 0x800

_SystemHypervisorInformation = 0x5B
_LONGEST_CONFIG = 8192


class _SERVICE_STATUS(ctypes.Structure):
    _fields_ = [
        ("dwServiceType", wintypes.DWORD),
        ("dwCurrentState", wintypes.DWORD),
        ("dwControlsAccepted", wintypes.DWORD),
        ("dwWin32ExitCode", wintypes.DWORD),
        ("dwServiceSpecificExitCode", wintypes.DWORD),
        ("dwCheckPoint", wintypes.DWORD),
        ("dwWaitHint", wintypes.DWORD),
    ]


class _QUERY_SERVICE_CONFIGW(ctypes.Structure):
    _fields_ = [("dwServiceType", wintypes.DWORD), ("dwStartType", wintypes.DWORD), ("dwErrorControl", wintypes.DWORD)]


class _SYSTEM_HYPERVISOR_QUERY_INFORMATION(ctypes.Structure):
    _fields_ = [
        ("HypervisorConnected", wintypes.BOOLEAN),
        ("HypervisorDebuggingEnabled", wintypes.BOOLEAN),
        ("HypervisorPresent", wintypes.BOOLEAN),
        ("Spare0", wintypes.BOOLEAN * 5),
        ("EnabledEnlightenments", ctypes.c_uint64),
    ]


_D, _P, _S = wintypes.DWORD, wintypes.LPVOID, wintypes.LPCWSTR
_SC_HANDLE, _PD, _PU = wintypes.HANDLE, ctypes.POINTER(wintypes.DWORD), ctypes.POINTER(wintypes.USHORT)

_OpenSCManagerW = declare(advapi32, "OpenSCManagerW", _SC_HANDLE, [_S, _S, _D])
_OpenServiceW = declare(advapi32, "OpenServiceW", _SC_HANDLE, [_SC_HANDLE, _S, _D])
_CloseServiceHandle = declare(advapi32, "CloseServiceHandle", wintypes.BOOL, [_SC_HANDLE])
_QueryServiceStatus = declare(
    advapi32, "QueryServiceStatus", wintypes.BOOL, [_SC_HANDLE, ctypes.POINTER(_SERVICE_STATUS)]
)
_QueryServiceConfigW = declare(advapi32, "QueryServiceConfigW", wintypes.BOOL, [_SC_HANDLE, _P, _D, _PD])
_IsProcessorFeaturePresent = declare(kernel32, "IsProcessorFeaturePresent", wintypes.BOOL, [_D], None)
_GetCurrentProcess = declare(kernel32, "GetCurrentProcess", wintypes.HANDLE, [], None)
_IsWow64Process2 = declare(kernel32, "IsWow64Process2", wintypes.BOOL, [wintypes.HANDLE, _PU, _PU])
_FreeLibrary = declare(kernel32, "FreeLibrary", wintypes.BOOL, [wintypes.HMODULE])
_NtQuerySystemInformation = declare(
    ntdll, "NtQuerySystemInformation", wintypes.LONG, [ctypes.c_int, _P, wintypes.ULONG, _P], None
)


def native_machine() -> int:
    """IsWow64Process2: one of IMAGE_FILE_MACHINE_*."""
    emulated, native = wintypes.USHORT(), wintypes.USHORT()
    _IsWow64Process2(_GetCurrentProcess(), ctypes.byref(emulated), ctypes.byref(native))
    return native.value


def has_processor_feature(number: int) -> bool:
    """IsProcessorFeaturePresent."""
    return bool(_IsProcessorFeaturePresent(number))


def hypervisor_present() -> bool | None:
    """NtQuerySystemInformation; None where this Windows does not tell."""
    told = _SYSTEM_HYPERVISOR_QUERY_INFORMATION()
    status = _NtQuerySystemInformation(_SystemHypervisorInformation, ctypes.byref(told), ctypes.sizeof(told), None)
    return None if status else bool(told.HypervisorPresent)


def missing_exports(library: str, names: Sequence[str]) -> tuple[str, ...]:
    """LoadLibraryExW from System32, and which of `names` it does not have. OSError when it cannot be loaded."""
    loaded = ctypes.WinDLL(library, winmode=LOAD_LIBRARY_SEARCH_SYSTEM32)
    try:
        return tuple(name for name in names if not hasattr(loaded, name))
    finally:
        _FreeLibrary(loaded._handle)  # noqa: SLF001 - how ctypes unloads, it does not say


@contextmanager
def service(name: str) -> Iterator[int]:
    """OpenSCManagerW and OpenServiceW, to be asked for state and configuration; closed at the end."""
    manager = _OpenSCManagerW(None, None, SC_MANAGER_CONNECT)
    try:
        opened: int = _OpenServiceW(manager, name, SERVICE_QUERY_CONFIG | SERVICE_QUERY_STATUS)
        try:
            yield opened
        finally:
            _CloseServiceHandle(opened)
    finally:
        _CloseServiceHandle(manager)


def service_state(service: int) -> int:
    """QueryServiceStatus: SERVICE_RUNNING and so on."""
    status = _SERVICE_STATUS()
    _QueryServiceStatus(service, ctypes.byref(status))
    return int(status.dwCurrentState)


def service_start_type(service: int) -> int:
    """QueryServiceConfigW: SERVICE_DISABLED and so on."""
    buffer = ctypes.create_string_buffer(_LONGEST_CONFIG)
    needed = wintypes.DWORD()
    _QueryServiceConfigW(service, buffer, len(buffer), ctypes.byref(needed))
    return int(_QUERY_SERVICE_CONFIGW.from_buffer(buffer).dwStartType)
