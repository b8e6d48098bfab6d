"""Calls of kernel32, advapi32 and ntdll, spelled as in the Windows SDK. Declarations and conversions only, no policy.

Where a call reports failure, OSError with its `winerror` is raised. Handles are integers; whoever gets one closes it.
"""

import sys

assert sys.platform == "win32"

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import wintypes
from typing import Any

ERROR_ACCESS_DENIED = 5
ERROR_SHARING_VIOLATION = 32
ERROR_LOCK_VIOLATION = 33
ERROR_INSUFFICIENT_BUFFER = 122

DELETE = 0x00010000
SYNCHRONIZE = 0x00100000
GENERIC_READ = 0x80000000
GENERIC_WRITE = 0x40000000
FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_SHARE_DELETE = 1, 2, 4
CREATE_NEW, OPEN_EXISTING, OPEN_ALWAYS = 1, 3, 4
FILE_ATTRIBUTE_NORMAL = 0x80
LOCKFILE_FAIL_IMMEDIATELY, LOCKFILE_EXCLUSIVE_LOCK = 1, 2

PROCESS_TERMINATE = 0x0001
PROCESS_QUERY_LIMITED_INFORMATION = 0x1000
WAIT_TIMEOUT = 258

TOKEN_DUPLICATE, TOKEN_IMPERSONATE, TOKEN_QUERY = 0x0002, 0x0004, 0x0008
TOKEN_ADJUST_PRIVILEGES, TOKEN_ADJUST_DEFAULT = 0x0020, 0x0080
TokenUser, TokenElevation = 1, 20
SecurityImpersonation, TokenImpersonation = 2, 2
SDDL_REVISION_1 = 1

STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE = -10, -11, -12
ENABLE_PROCESSED_INPUT, ENABLE_LINE_INPUT, ENABLE_ECHO_INPUT = 0x1, 0x2, 0x4
ENABLE_VIRTUAL_TERMINAL_INPUT = 0x200
ENABLE_PROCESSED_OUTPUT, ENABLE_VIRTUAL_TERMINAL_PROCESSING, DISABLE_NEWLINE_AUTO_RETURN = 0x1, 0x4, 0x8
CP_UTF8 = 65001
CTRL_C_EVENT, CTRL_BREAK_EVENT = 0, 1

_SystemTimeOfDayInformation = 3
_INVALID_HANDLE_VALUE = ctypes.c_void_p(-1).value


class _SECURITY_ATTRIBUTES(ctypes.Structure):
    _fields_ = [
        ("nLength", wintypes.DWORD),
        ("lpSecurityDescriptor", wintypes.LPVOID),
        ("bInheritHandle", wintypes.BOOL),
    ]


class _OVERLAPPED(ctypes.Structure):
    _fields_ = [
        ("Internal", ctypes.c_size_t),
        ("InternalHigh", ctypes.c_size_t),
        ("Offset", wintypes.DWORD),
        ("OffsetHigh", wintypes.DWORD),
        ("hEvent", wintypes.HANDLE),
    ]


class _MEMORYSTATUSEX(ctypes.Structure):
    _fields_ = [
        ("dwLength", wintypes.DWORD),
        ("dwMemoryLoad", wintypes.DWORD),
        ("ullTotalPhys", ctypes.c_uint64),
        ("ullAvailPhys", ctypes.c_uint64),
        ("ullTotalPageFile", ctypes.c_uint64),
        ("ullAvailPageFile", ctypes.c_uint64),
        ("ullTotalVirtual", ctypes.c_uint64),
        ("ullAvailVirtual", ctypes.c_uint64),
        ("ullAvailExtendedVirtual", ctypes.c_uint64),
    ]


class _PROCESS_MEMORY_COUNTERS(ctypes.Structure):
    _fields_ = [
        ("cb", wintypes.DWORD),
        ("PageFaultCount", wintypes.DWORD),
        ("PeakWorkingSetSize", ctypes.c_size_t),
        ("WorkingSetSize", ctypes.c_size_t),
        ("QuotaPeakPagedPoolUsage", ctypes.c_size_t),
        ("QuotaPagedPoolUsage", ctypes.c_size_t),
        ("QuotaPeakNonPagedPoolUsage", ctypes.c_size_t),
        ("QuotaNonPagedPoolUsage", ctypes.c_size_t),
        ("PagefileUsage", ctypes.c_size_t),
        ("PeakPagefileUsage", ctypes.c_size_t),
    ]


class _SYSTEM_TIMEOFDAY_INFORMATION(ctypes.Structure):
    _fields_ = [
        ("BootTime", ctypes.c_int64),
        ("CurrentTime", ctypes.c_int64),
        ("TimeZoneBias", ctypes.c_int64),
        ("TimeZoneId", wintypes.ULONG),
        ("Reserved", wintypes.ULONG),
        ("BootTimeBias", ctypes.c_uint64),
        ("SleepTimeBias", ctypes.c_uint64),
    ]


class _OSVERSIONINFOW(ctypes.Structure):
    _fields_ = [
        ("dwOSVersionInfoSize", wintypes.ULONG),
        ("dwMajorVersion", wintypes.ULONG),
        ("dwMinorVersion", wintypes.ULONG),
        ("dwBuildNumber", wintypes.ULONG),
        ("dwPlatformId", wintypes.ULONG),
        ("szCSDVersion", wintypes.WCHAR * 128),
    ]


class _TOKEN_USER(ctypes.Structure):
    _fields_ = [("Sid", wintypes.LPVOID), ("Attributes", wintypes.DWORD)]


def _succeeded(result: Any, function: Any, _arguments: Any) -> Any:
    if not result:
        error = ctypes.WinError(ctypes.get_last_error())
        error.add_note(function.__name__)
        raise error
    return result


def _is_handle(result: Any, function: Any, arguments: Any) -> Any:
    return _succeeded(None if result == _INVALID_HANDLE_VALUE else result, function, arguments)


def declare(
    library: ctypes.WinDLL, name: str, result: Any, arguments: list[Any], check: Any = _succeeded
) -> Callable[..., Any]:
    """The function `name` of `library`; with its last error raised unless `check` says otherwise."""
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    if check is not None:
        function.errcheck = check
    called: Callable[..., Any] = function
    return called


kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
ntdll = ctypes.WinDLL("ntdll")

_H, _D, _B = wintypes.HANDLE, wintypes.DWORD, wintypes.BOOL
_P, _S = wintypes.LPVOID, wintypes.LPCWSTR
_PD = ctypes.POINTER(wintypes.DWORD)

_CloseHandle = declare(kernel32, "CloseHandle", _B, [_H])
_LocalFree = declare(kernel32, "LocalFree", _P, [_P], None)
_GetCurrentProcess = declare(kernel32, "GetCurrentProcess", _H, [], None)
_OpenProcess = declare(kernel32, "OpenProcess", _H, [_D, _B, _D])
_TerminateProcess = declare(kernel32, "TerminateProcess", _B, [_H, wintypes.UINT])
_WaitForSingleObject = declare(kernel32, "WaitForSingleObject", _D, [_H, _D], None)
_GetProcessTimes = declare(kernel32, "GetProcessTimes", _B, [_H] + 4 * [ctypes.POINTER(wintypes.FILETIME)])
_K32GetProcessMemoryInfo = declare(
    kernel32, "K32GetProcessMemoryInfo", _B, [_H, ctypes.POINTER(_PROCESS_MEMORY_COUNTERS), _D]
)
_GlobalMemoryStatusEx = declare(kernel32, "GlobalMemoryStatusEx", _B, [ctypes.POINTER(_MEMORYSTATUSEX)])
_CreateFileW = declare(kernel32, "CreateFileW", _H, [_S, _D, _D, _P, _D, _D, _H], _is_handle)
_LockFileEx = declare(kernel32, "LockFileEx", _B, [_H, _D, _D, _D, _D, ctypes.POINTER(_OVERLAPPED)])
_CreateEventW = declare(kernel32, "CreateEventW", _H, [_P, _B, _B, _S])
_SetEvent = declare(kernel32, "SetEvent", _B, [_H])
_DisconnectNamedPipe = declare(kernel32, "DisconnectNamedPipe", _B, [_H])
_GetStdHandle = declare(kernel32, "GetStdHandle", _H, [_D], _is_handle)
_GetConsoleMode = declare(kernel32, "GetConsoleMode", _B, [_H, _PD])
_SetConsoleMode = declare(kernel32, "SetConsoleMode", _B, [_H, _D])
_GetConsoleOutputCP = declare(kernel32, "GetConsoleOutputCP", wintypes.UINT, [], None)
_SetConsoleOutputCP = declare(kernel32, "SetConsoleOutputCP", _B, [wintypes.UINT])
_FreeConsole = declare(kernel32, "FreeConsole", _B, [])
_CtrlHandler = ctypes.WINFUNCTYPE(_B, _D)
_SetConsoleCtrlHandler = declare(kernel32, "SetConsoleCtrlHandler", _B, [_CtrlHandler, _B])
_kept: list[Any] = []
_ReadConsoleW = declare(kernel32, "ReadConsoleW", _B, [_H, _P, _D, _PD, _P])
_OpenProcessToken = declare(advapi32, "OpenProcessToken", _B, [_H, _D, ctypes.POINTER(_H)])
_DuplicateTokenEx = declare(
    advapi32, "DuplicateTokenEx", _B, [_H, _D, _P, ctypes.c_int, ctypes.c_int, ctypes.POINTER(_H)]
)
_GetTokenInformation = declare(advapi32, "GetTokenInformation", _B, [_H, ctypes.c_int, _P, _D, _PD])
_ConvertSidToStringSidW = declare(advapi32, "ConvertSidToStringSidW", _B, [_P, ctypes.POINTER(_P)])
_ConvertStringSidToSidW = declare(advapi32, "ConvertStringSidToSidW", _B, [_S, ctypes.POINTER(_P)])
_CheckTokenMembership = declare(advapi32, "CheckTokenMembership", _B, [_H, _P, ctypes.POINTER(_B)])
_ConvertStringSecurityDescriptorToSecurityDescriptorW = declare(
    advapi32,
    "ConvertStringSecurityDescriptorToSecurityDescriptorW",
    _B,
    [_S, _D, ctypes.POINTER(_P), ctypes.POINTER(wintypes.ULONG)],
)
_RtlGetVersion = declare(ntdll, "RtlGetVersion", wintypes.LONG, [ctypes.POINTER(_OSVERSIONINFOW)], None)
_NtQuerySystemInformation = declare(
    ntdll, "NtQuerySystemInformation", ctypes.c_long, [ctypes.c_int, _P, wintypes.ULONG, _P], None
)


def close_handle(handle: int) -> None:
    """CloseHandle."""
    _CloseHandle(handle)


@contextmanager
def process(pid: int, access: int) -> Iterator[int]:
    """OpenProcess; closed at the end."""
    handle: int = _OpenProcess(access, False, pid)
    try:
        yield handle
    finally:
        _CloseHandle(handle)


def has_ended(process: int) -> bool:
    """WaitForSingleObject without waiting; the handle needs SYNCHRONIZE."""
    return bool(_WaitForSingleObject(process, 0) != WAIT_TIMEOUT)


def terminate_process(process: int, exit_code: int) -> None:
    """TerminateProcess; the handle needs PROCESS_TERMINATE."""
    _TerminateProcess(process, exit_code)


def creation_time(process: int) -> int:
    """GetProcessTimes: when it was created, in units of 100 ns since 1601."""
    times = [wintypes.FILETIME() for _ in range(4)]
    _GetProcessTimes(process, *map(ctypes.byref, times))
    return int(times[0].dwHighDateTime << 32 | times[0].dwLowDateTime)


def working_set_size(process: int) -> int:
    """K32GetProcessMemoryInfo: resident bytes."""
    counters = _PROCESS_MEMORY_COUNTERS(cb=ctypes.sizeof(_PROCESS_MEMORY_COUNTERS))
    _K32GetProcessMemoryInfo(process, ctypes.byref(counters), ctypes.sizeof(counters))
    return int(counters.WorkingSetSize)


def total_physical_memory() -> int:
    """GlobalMemoryStatusEx: bytes."""
    status = _MEMORYSTATUSEX(dwLength=ctypes.sizeof(_MEMORYSTATUSEX))
    _GlobalMemoryStatusEx(ctypes.byref(status))
    return int(status.ullTotalPhys)


def boot_time() -> int:
    """NtQuerySystemInformation: when the system was booted, in units of 100 ns, by its clock of then."""
    told = _SYSTEM_TIMEOFDAY_INFORMATION()
    status = _NtQuerySystemInformation(_SystemTimeOfDayInformation, ctypes.byref(told), ctypes.sizeof(told), None)
    if status:
        raise OSError(0, f"NtQuerySystemInformation failed with {status & 0xFFFFFFFF:#x}")
    return int(told.BootTime - told.BootTimeBias)


def build_number() -> int:
    """RtlGetVersion, which no compatibility setting changes."""
    version = _OSVERSIONINFOW(dwOSVersionInfoSize=ctypes.sizeof(_OSVERSIONINFOW))
    _RtlGetVersion(ctypes.byref(version))
    return int(version.dwBuildNumber)


def create_file(path: str, access: int, share: int, disposition: int) -> int:
    """CreateFileW; the handle is not inherited."""
    handle: int = _CreateFileW(path, access, share, None, disposition, FILE_ATTRIBUTE_NORMAL, None)
    return handle


def lock_file(handle: int, flags: int, offset: int) -> None:
    """LockFileEx, one byte at `offset`."""
    where = _OVERLAPPED(Offset=offset & 0xFFFFFFFF, OffsetHigh=offset >> 32)
    _LockFileEx(handle, flags, 0, 1, 0, ctypes.byref(where))


def create_event() -> int:
    """CreateEventW: one that stays set, and is not."""
    handle: int = _CreateEventW(None, True, False, None)
    return handle


def set_event(event: int) -> None:
    """SetEvent."""
    _SetEvent(event)


def disconnect_named_pipe(pipe: int) -> None:
    """DisconnectNamedPipe."""
    _DisconnectNamedPipe(pipe)


def standard_handle(number: int) -> int:
    """GetStdHandle."""
    handle: int = _GetStdHandle(number & 0xFFFFFFFF)
    return handle


def console_mode(handle: int) -> int:
    """GetConsoleMode; fails when it is no console."""
    mode = wintypes.DWORD()
    _GetConsoleMode(handle, ctypes.byref(mode))
    return mode.value


def set_console_mode(handle: int, mode: int) -> None:
    """SetConsoleMode."""
    _SetConsoleMode(handle, mode)


def console_output_code_page() -> int:
    """GetConsoleOutputCP; 0 without a console."""
    return int(_GetConsoleOutputCP())


def set_console_output_code_page(number: int) -> None:
    """SetConsoleOutputCP."""
    _SetConsoleOutputCP(number)


def set_console_control_handler(handle: Callable[[int], bool]) -> None:
    """SetConsoleCtrlHandler, for good; `handle` is called from a thread of its own."""
    _kept.append(_CtrlHandler(handle))
    _SetConsoleCtrlHandler(_kept[-1], True)


def free_console() -> None:
    """FreeConsole."""
    _FreeConsole()


def read_console(handle: int, most: int) -> bytes:
    """ReadConsoleW: at most `most` UTF-16 units, as bytes."""
    buffer = ctypes.create_string_buffer(2 * most)
    count = wintypes.DWORD()
    _ReadConsoleW(handle, buffer, most, ctypes.byref(count), None)
    return buffer.raw[: 2 * count.value]


@contextmanager
def _own_token(access: int = TOKEN_QUERY) -> Iterator[wintypes.HANDLE]:
    token = wintypes.HANDLE()
    _OpenProcessToken(_GetCurrentProcess(), access, ctypes.byref(token))
    try:
        yield token
    finally:
        _CloseHandle(token)


@contextmanager
def impersonation_token() -> Iterator[int]:
    """DuplicateTokenEx: a copy of this process' token that another process may act with; closed at the end."""
    rights = TOKEN_DUPLICATE | TOKEN_IMPERSONATE | TOKEN_QUERY | TOKEN_ADJUST_PRIVILEGES | TOKEN_ADJUST_DEFAULT
    made = wintypes.HANDLE()
    with _own_token(TOKEN_DUPLICATE | TOKEN_QUERY) as token:
        _DuplicateTokenEx(token, rights, None, SecurityImpersonation, TokenImpersonation, ctypes.byref(made))
    try:
        yield made.value or 0
    finally:
        _CloseHandle(made)


def token_user() -> str:
    """GetTokenInformation: the SID of who runs this process, as a string."""
    with _own_token() as token:
        needed = wintypes.DWORD()
        try:
            _GetTokenInformation(token, TokenUser, None, 0, ctypes.byref(needed))
        except OSError as error:
            if error.winerror != ERROR_INSUFFICIENT_BUFFER:
                raise
        buffer = ctypes.create_string_buffer(needed.value)
        _GetTokenInformation(token, TokenUser, buffer, needed, ctypes.byref(needed))
        text = wintypes.LPVOID()
        _ConvertSidToStringSidW(_TOKEN_USER.from_buffer(buffer).Sid, ctypes.byref(text))
    try:
        return ctypes.wstring_at(text.value or 0)
    finally:
        _LocalFree(text)


def token_is_elevated() -> bool:
    """GetTokenInformation: whether this process runs with administrator's rights."""
    elevation, length = wintypes.DWORD(), wintypes.DWORD()
    with _own_token() as token:
        _GetTokenInformation(
            token, TokenElevation, ctypes.byref(elevation), ctypes.sizeof(elevation), ctypes.byref(length)
        )
    return bool(elevation.value)


def token_has_member(sid: str) -> bool:
    """CheckTokenMembership: whether the group `sid` (a string) is enabled in this process' token."""
    binary, member = wintypes.LPVOID(), wintypes.BOOL()
    _ConvertStringSidToSidW(sid, ctypes.byref(binary))
    try:
        _CheckTokenMembership(None, binary, ctypes.byref(member))
    finally:
        _LocalFree(binary)
    return bool(member.value)


@contextmanager
def security_attributes(sddl: str) -> Iterator[int]:
    """The address of a SECURITY_ATTRIBUTES with the descriptor that `sddl` writes, valid inside the context."""
    descriptor = wintypes.LPVOID()
    _ConvertStringSecurityDescriptorToSecurityDescriptorW(sddl, SDDL_REVISION_1, ctypes.byref(descriptor), None)
    try:
        attributes = _SECURITY_ATTRIBUTES(ctypes.sizeof(_SECURITY_ATTRIBUTES), descriptor, False)
        yield ctypes.addressof(attributes)
    finally:
        _LocalFree(descriptor)
