"""What an HRESULT of Hyper-V means to somebody who wants a machine: a cause, a cure, and the exception to raise.

Pure. Codes and names follow the HCS reference ("HCSHResult"), winerror.h for Win32 and virtual-disk codes, and
Winsock's for the socket; causes and cures are ours. `docs/windows.md` shows the table (tools/gen_windows_doc.py).
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from propolis.errors import BackendError, BackendUnavailable, PropolisError, StorageFull, Unsupported

OPERATION_TIMEOUT = 0x80370118
ALREADY_STOPPED = 0x80370110
NOT_FOUND = 0x8037010E
ALREADY_EXISTS = 0x8037010F
ACCESS_DENIED = 0x80070005
OUT_OF_MEMORY = 0x8007000E
GONE = frozenset({ALREADY_STOPPED, NOT_FOUND})
"""What a request to end a system answers when there is nothing left to end."""

_MOST_DOCUMENT = 1 << 18
_MOST_EVENTS = 4
_MOST_TEXT = 300
_JSON_PATH = re.compile(r"\$(?:\.[A-Za-z0-9_\-]{1,64}|\[[A-Za-z0-9_\-'\"]{1,64}\]){1,16}")


@dataclass(frozen=True, slots=True)
class Meaning:
    """One code as a user sees it."""

    code: int
    name: str
    cause: str
    cure: str
    error: type[PropolisError] = BackendError


_ENABLE = (
    "in an elevated prompt run `dism /online /enable-feature /featurename:VirtualMachinePlatform /all`, then restart"
)
_HYPERVISOR = (
    f"{_ENABLE}; if it is enabled already, turn on virtualization in the firmware, "
    "and run `bcdedit /set hypervisorlaunchtype auto`"
)
_RIGHTS = "run it from an elevated prompt, or join the group Hyper-V Administrators and log in again"
_REPORT = "try again; if it stays, please report it with the command that was run"
_UPDATE = "update Windows"
_CONSOLE = "see the machine's console for its last words; try another --kernel"
_SERVICE = "start the Hyper-V Host Compute Service (vmcompute) in services.msc, or restart Windows"
_MADE_AGAIN = "run `propolis disk verify` on the file; remove it from the cache, and it is made again"
_ELSEWHERE = "close what uses it: another machine, a disk mounted in Explorer, a virus scanner"
_MEMORY = "ask for less with --memory, or end other machines and programs"
_AGAIN = "disable the feature Virtual Machine Platform, restart, enable it again, and restart once more"
_SIZE = "ask for other values of --memory and --cpus"
_DIFFERENCING = "propolis attaches no differencing disks; use a disk of its own making"
_PATH = "check that the file is still there, on a drive of this host"

_U, _N, _F = BackendUnavailable, Unsupported, StorageFull

_TABLE = (
    Meaning(0x80370100, "HCS_E_TERMINATED_DURING_START", "the guest ended as soon as it was started", _CONSOLE),
    Meaning(
        0x80370101, "HCS_E_IMAGE_MISMATCH", "Windows takes this for a Windows container of another version", _REPORT
    ),
    Meaning(0x80370102, "HCS_E_HYPERV_NOT_INSTALLED", "the hypervisor does not run", _HYPERVISOR, _U),
    Meaning(0x80370105, "HCS_E_INVALID_STATE", "the machine is not in a state that allows this", _REPORT),
    Meaning(0x80370106, "HCS_E_UNEXPECTED_EXIT", "the guest or its worker process crashed", _CONSOLE),
    Meaning(0x80370107, "HCS_E_TERMINATED", "somebody terminated the machine", "start it again"),
    Meaning(0x80370108, "HCS_E_CONNECT_FAILED", "Windows waited for its own agent in the guest in vain", _REPORT),
    Meaning(0x80370109, "HCS_E_CONNECTION_TIMEOUT", "Windows' connection into the guest timed out", _REPORT),
    Meaning(0x8037010A, "HCS_E_CONNECTION_CLOSED", "the guest closed Windows' connection", _REPORT),
    Meaning(0x8037010B, "HCS_E_UNKNOWN_MESSAGE", "the guest sent Windows an unknown message", _REPORT),
    Meaning(0x8037010C, "HCS_E_UNSUPPORTED_PROTOCOL_VERSION", "guest and Windows speak different protocols", _REPORT),
    Meaning(0x8037010D, "HCS_E_INVALID_JSON", "this Windows does not know a setting that propolis sent", _UPDATE),
    Meaning(NOT_FOUND, "HCS_E_SYSTEM_NOT_FOUND", "the machine is gone", "start it again"),
    Meaning(
        ALREADY_EXISTS,
        "HCS_E_SYSTEM_ALREADY_EXISTS",
        "a machine with this id runs already",
        "run `propolis doctor --fix`, which ends machines whose owner died",
    ),
    Meaning(ALREADY_STOPPED, "HCS_E_SYSTEM_ALREADY_STOPPED", "the machine has stopped already", "start it again"),
    Meaning(0x80370111, "HCS_E_PROTOCOL_ERROR", "guest and Windows misunderstood each other", _REPORT),
    Meaning(0x80370112, "HCS_E_INVALID_LAYER", "Windows takes a disk for a broken container layer", _MADE_AGAIN),
    Meaning(0x80370113, "HCS_E_WINDOWS_INSIDER_REQUIRED", "this needs a newer Windows", _UPDATE, _N),
    Meaning(0x80370114, "HCS_E_SERVICE_NOT_AVAILABLE", "the Host Compute Service is not available", _ENABLE, _U),
    Meaning(0x80370115, "HCS_E_OPERATION_NOT_STARTED", "propolis asked for a result before its request", _REPORT),
    Meaning(0x80370116, "HCS_E_OPERATION_ALREADY_STARTED", "propolis made two requests as one", _REPORT),
    Meaning(0x80370117, "HCS_E_OPERATION_PENDING", "the request has not finished", _REPORT),
    Meaning(
        OPERATION_TIMEOUT,
        "HCS_E_OPERATION_TIMEOUT",
        "Windows did not answer in time",
        "try again when the host is less busy; restart Windows if it stays",
    ),
    Meaning(0x80370119, "HCS_E_OPERATION_SYSTEM_CALLBACK_ALREADY_SET", "propolis registered for events twice", _REPORT),
    Meaning(0x8037011A, "HCS_E_OPERATION_RESULT_ALLOCATION_FAILED", "no memory for Windows' answer", _MEMORY),
    Meaning(0x8037011B, "HCS_E_ACCESS_DENIED", "this user may not run virtual machines", _RIGHTS, _U),
    Meaning(0x8037011C, "HCS_E_GUEST_CRITICAL_ERROR", "the guest's kernel failed", _CONSOLE),
    Meaning(0x8037011D, "HCS_E_PROCESS_INFO_NOT_AVAILABLE", "Windows knows nothing of that process", _REPORT),
    Meaning(
        0x8037011E, "HCS_E_SERVICE_DISCONNECT", "the Host Compute Service was restarted", "start the machine again"
    ),
    Meaning(0x8037011F, "HCS_E_PROCESS_ALREADY_STOPPED", "that process has ended already", _REPORT),
    Meaning(0x80370103, "HCS_E_PENDING", "Windows has not finished the request", _REPORT),
    Meaning(0x80004001, "E_NOTIMPL", "this Windows does not do that", _UPDATE, _N),
    Meaning(0x80004005, "E_FAIL", "Windows says no more than that it failed", _REPORT),
    Meaning(0x80070002, "ERROR_FILE_NOT_FOUND", "a file of the machine is missing", _PATH),
    Meaning(0x80070003, "ERROR_PATH_NOT_FOUND", "a directory of the machine is missing", _PATH),
    Meaning(0x8007000D, "ERROR_INVALID_DATA", "Windows cannot read what propolis sent", _REPORT),
    Meaning(
        0x80070569,
        "ERROR_LOGON_TYPE_NOT_GRANTED",
        "a policy withholds from virtual machines the right to log on as a service",
        r"have `NT VIRTUAL MACHINE\Virtual Machines` added to that right (secpol.msc, or the domain's administrator); "
        "until then, restarting the service vmcompute can help",
    ),
    Meaning(
        ACCESS_DENIED,
        "E_ACCESSDENIED",
        "access denied: to a file of the machine, or to virtual machines at all",
        f"keep the files in directories of your own; {_RIGHTS}",
    ),
    Meaning(OUT_OF_MEMORY, "E_OUTOFMEMORY", "the host has not enough free memory for the machine", _MEMORY),
    Meaning(0x80070020, "ERROR_SHARING_VIOLATION", "a file of the machine is in use", _ELSEWHERE),
    Meaning(0x80070021, "ERROR_LOCK_VIOLATION", "part of a file of the machine is locked", _ELSEWHERE),
    Meaning(0x80070027, "ERROR_HANDLE_DISK_FULL", "no space left on the drive", "free some space there", _F),
    Meaning(0x80070032, "ERROR_NOT_SUPPORTED", "this Windows does not support what was asked for", _UPDATE, _N),
    Meaning(0x80070057, "E_INVALIDARG", "Windows refuses a value of the machine's settings", _REPORT),
    Meaning(0x80070070, "ERROR_DISK_FULL", "no space left on the drive", "free some space there", _F),
    Meaning(0x800700CE, "ERROR_FILENAME_EXCED_RANGE", "the path of a file is too long", "move it nearer to the root"),
    Meaning(0x80070422, "ERROR_SERVICE_DISABLED", "the Host Compute Service is disabled", _SERVICE, _U),
    Meaning(0x80070424, "ERROR_SERVICE_DOES_NOT_EXIST", "there is no Host Compute Service", _ENABLE, _U),
    Meaning(0x80070426, "ERROR_SERVICE_NOT_ACTIVE", "the Host Compute Service is stopped", _SERVICE, _U),
    Meaning(0x8007042C, "ERROR_SERVICE_DEPENDENCY_FAIL", "a service that it needs does not start", _SERVICE, _U),
    Meaning(0x800705AA, "ERROR_NO_SYSTEM_RESOURCES", "the host has not enough resources for the machine", _MEMORY),
    Meaning(0x800705AF, "ERROR_COMMITMENT_LIMIT", "the page file is too small for the machine's memory", _MEMORY),
    Meaning(0x800705B4, "ERROR_TIMEOUT", "Windows gave up waiting", "try again when the host is less busy"),
    Meaning(0x800706BA, "RPC_S_SERVER_UNAVAILABLE", "the Host Compute Service does not answer", _SERVICE, _U),
    Meaning(0x800706BE, "RPC_S_CALL_FAILED", "the Host Compute Service went away during the call", _SERVICE),
    Meaning(0x80040155, "REGDB_E_IIDNOTREG", "Windows' virtualization is damaged", _AGAIN, _U),
    Meaning(0x80041008, "WBEM_E_INVALID_PARAMETER", "Windows refuses the size of the machine", _SIZE),
    Meaning(0x80041002, "WBEM_E_NOT_FOUND", "Windows has no such feature", _ENABLE, _U),
    Meaning(0xC03A0001, "ERROR_VHD_DRIVE_FOOTER_MISSING", "a disk has no VHD footer", _MADE_AGAIN),
    Meaning(0xC03A0002, "ERROR_VHD_DRIVE_FOOTER_CHECKSUM_MISMATCH", "a disk's footer is damaged", _MADE_AGAIN),
    Meaning(0xC03A0003, "ERROR_VHD_DRIVE_FOOTER_CORRUPT", "a disk's footer is no VHD footer", _MADE_AGAIN),
    Meaning(0xC03A0004, "ERROR_VHD_FORMAT_UNKNOWN", "a disk's content does not fit its extension", _MADE_AGAIN),
    Meaning(0xC03A0005, "ERROR_VHD_FORMAT_UNSUPPORTED_VERSION", "a disk is of an unknown version", _MADE_AGAIN),
    Meaning(0xC03A0006, "ERROR_VHD_SPARSE_HEADER_CHECKSUM_MISMATCH", "a disk's header is damaged", _MADE_AGAIN),
    Meaning(0xC03A0007, "ERROR_VHD_SPARSE_HEADER_UNSUPPORTED_VERSION", "a disk's header is unknown", _MADE_AGAIN),
    Meaning(0xC03A0008, "ERROR_VHD_SPARSE_HEADER_CORRUPT", "a disk's header makes no sense", _MADE_AGAIN),
    Meaning(0xC03A0009, "ERROR_VHD_BLOCK_ALLOCATION_FAILURE", "a disk could not grow", "free some space there", _F),
    Meaning(0xC03A000A, "ERROR_VHD_BLOCK_ALLOCATION_TABLE_CORRUPT", "a disk's block table is damaged", _MADE_AGAIN),
    Meaning(0xC03A000B, "ERROR_VHD_INVALID_BLOCK_SIZE", "a disk's blocks have a refused size", _MADE_AGAIN),
    Meaning(0xC03A000C, "ERROR_VHD_BITMAP_MISMATCH", "a disk's bitmap contradicts its blocks", _MADE_AGAIN),
    Meaning(0xC03A000D, "ERROR_VHD_PARENT_VHD_NOT_FOUND", "a disk's parent is missing", _DIFFERENCING),
    Meaning(0xC03A000E, "ERROR_VHD_CHILD_PARENT_ID_MISMATCH", "a disk's parent is another one", _DIFFERENCING),
    Meaning(0xC03A000F, "ERROR_VHD_CHILD_PARENT_TIMESTAMP_MISMATCH", "a disk's parent was changed", _DIFFERENCING),
    Meaning(0xC03A0010, "ERROR_VHD_METADATA_READ_FAILURE", "a disk's metadata cannot be read", _MADE_AGAIN),
    Meaning(0xC03A0011, "ERROR_VHD_METADATA_WRITE_FAILURE", "a disk's metadata cannot be written", _MADE_AGAIN),
    Meaning(0xC03A0012, "ERROR_VHD_INVALID_SIZE", "a disk has a refused size", _MADE_AGAIN),
    Meaning(0xC03A0013, "ERROR_VHD_INVALID_FILE_SIZE", "a disk's file has a refused length", _MADE_AGAIN),
    Meaning(0xC03A0014, "ERROR_VIRTDISK_PROVIDER_NOT_FOUND", "Windows cannot read this kind of disk", _MADE_AGAIN),
    Meaning(0xC03A0015, "ERROR_VIRTDISK_NOT_VIRTUAL_DISK", "a file is no virtual disk", _MADE_AGAIN),
    Meaning(0xC03A0016, "ERROR_VHD_PARENT_VHD_ACCESS_DENIED", "a disk's parent may not be read", _DIFFERENCING),
    Meaning(0xC03A0017, "ERROR_VHD_CHILD_PARENT_SIZE_MISMATCH", "a disk and its parent differ in size", _DIFFERENCING),
    Meaning(0xC03A0018, "ERROR_VHD_DIFFERENCING_CHAIN_CYCLE_DETECTED", "a disk is its own ancestor", _DIFFERENCING),
    Meaning(0xC03A0019, "ERROR_VHD_DIFFERENCING_CHAIN_ERROR_IN_PARENT", "a disk's ancestor is damaged", _DIFFERENCING),
    Meaning(
        0xC03A001A,
        "ERROR_VIRTUAL_DISK_LIMITATION",
        "a disk's file is sparse, compressed, encrypted, or has an integrity stream of ReFS, which Hyper-V refuses",
        "clear it with `fsutil sparse setflag FILE 0`, `compact /u FILE`, `cipher /d FILE`, "
        "`Set-FileIntegrity FILE -Enable $false`, also on its folder",
    ),
    Meaning(0xC03A001B, "ERROR_VHD_INVALID_TYPE", "a disk is of a refused type", _MADE_AGAIN),
    Meaning(0xC03A001C, "ERROR_VHD_INVALID_STATE", "a disk is in a state that forbids this", _ELSEWHERE),
    Meaning(
        0xC03A001D,
        "ERROR_VIRTDISK_UNSUPPORTED_DISK_SECTOR_SIZE",
        "the drive's sectors are larger than the disk's",
        "point PROPOLIS_CACHE and PROPOLIS_DATA at a drive with sectors of 512 bytes",
    ),
    Meaning(0xC03A001E, "ERROR_VIRTDISK_DISK_ALREADY_OWNED", "a disk belongs to another machine", _ELSEWHERE),
    Meaning(0xC03A001F, "ERROR_VIRTDISK_DISK_ONLINE_AND_WRITABLE", "a disk is mounted on this host", _ELSEWHERE),
    Meaning(
        0x8007271D,
        "WSAEACCES",
        "this user may not listen for the machine's connection",
        f"a machine can only be used by the user who started it; {_RIGHTS}",
    ),
    Meaning(0x80072739, "WSAEPROTOTYPE", "the socket was made with a wrong protocol", _REPORT),
    Meaning(0x8007273F, "WSAEAFNOSUPPORT", "this Windows has no Hyper-V sockets", _ENABLE, _U),
    Meaning(
        0x80072740,
        "WSAEADDRINUSE",
        "another process listens for this machine already",
        "end the other process, or run `propolis doctor --fix`",
    ),
    Meaning(0x8007274C, "WSAETIMEDOUT", "the machine did not connect in time", _CONSOLE),
    Meaning(0x8007274D, "WSAECONNREFUSED", "nobody listens in the machine", _CONSOLE),
)

_BY_CODE = {meaning.code: meaning for meaning in _TABLE}

_AT_CALL = {
    ("HcsGrantVmAccess", ACCESS_DENIED): (
        "its access list may not be changed by this user",
        "use a file that you own, or a copy of it",
    ),
    ("HcsGrantVmAccess", 0x80070057): (
        "its access list is full",
        "copy the file and use the copy; old entries stay with the original",
    ),
    ("HcsGetServiceProperties", ACCESS_DENIED): ("this user may not run virtual machines", _RIGHTS),
}
"""Where the same code means something narrower for one call."""


@dataclass(frozen=True, slots=True)
class ResultError:
    """A failed request's own words, bounded."""

    code: int | None
    messages: tuple[str, ...]
    path: str = ""
    """Where in the document the complaint is, as a JSON path."""


def meanings() -> Iterator[Meaning]:
    """The table, in order."""
    yield from _TABLE


def normal(code: int) -> int:
    """The code as the table has it: unsigned, and in the newer of HCS' two forms."""
    code &= 0xFFFFFFFF
    return code & 0x3FFFFFFF | 0x80000000 if code >> 16 == 0xC037 else code


def from_win32(number: int) -> int:
    """HRESULT_FROM_WIN32."""
    return 0x80070000 | number & 0xFFFF if number else 0


def explain(code: int, call: str = "") -> Meaning:
    """What `code` means, as the answer of `call`; of any code something can be said."""
    code = normal(code)
    meaning = _BY_CODE.get(code)
    if meaning is None:
        name = f"Win32 error {code & 0xFFFF}" if code >> 16 == 0x8007 else "unknown code"
        return Meaning(code, name, "Windows reports an error that propolis does not know", _REPORT)
    if (call, code) in _AT_CALL:
        cause, cure = _AT_CALL[call, code]
        error = BackendUnavailable if call == "HcsGetServiceProperties" else meaning.error
        return Meaning(code, meaning.name, cause, cure, error)
    return meaning


def parse(document: str | None) -> ResultError:
    """Read a ResultError document; what is none, or too large, says nothing."""
    found: Any = None
    if document and len(document) <= _MOST_DOCUMENT:
        try:
            found = json.loads(document)
        except (ValueError, RecursionError):
            found = None
    if not isinstance(found, dict):
        return ResultError(None, ())
    events = found.get("ErrorEvents")
    events = [event for event in events if isinstance(event, dict)] if isinstance(events, list) else []
    texts: list[str] = [text for event in events if isinstance(text := event.get("Message"), str) and text.strip()]
    path = next((match[0] for text in texts if (match := _JSON_PATH.search(text[: 16 * _MOST_TEXT]))), "")
    if not texts and isinstance(found.get("ErrorMessage"), str):
        texts = [found["ErrorMessage"]]
    if not any(text.strip() for text in texts):
        texts = [f"it failed at {step}" for step in _steps(found.get("Attribution"))]
    messages = tuple(dict.fromkeys(_shortened(text) for text in texts[:_MOST_EVENTS] if text.strip()))
    code = found.get("Error")
    return ResultError(normal(code) if type(code) is int and -(1 << 31) <= code < 1 << 32 else None, messages, path)


def _steps(attribution: Any) -> Iterator[str]:
    """What an Attribution says of an operation that failed, often all that there is: "Construct", "PowerOn"."""
    for item in attribution if isinstance(attribution, list) else []:
        failure = item.get("OperationFailure") if isinstance(item, dict) else None
        detail = failure.get("Detail") if isinstance(failure, dict) else None
        if isinstance(detail, str):
            yield detail


def error(what: str, code: int, document: str | None = None, *, call: str = "") -> PropolisError:
    """The exception for a request that failed: what was wanted, why it was refused in Windows' own words, what to do.

    Args:
        what: what could not be done, as the beginning of a sentence.
        code: the HRESULT.
        document: the ResultError document that came with it.
        call: the function that answered.
    """
    found = parse(document)
    meaning = explain(code, call)
    if normal(code) not in _BY_CODE and found.code in _BY_CODE:
        meaning = explain(found.code or code, call)
    words = "; ".join(found.messages)
    if found.path and found.path not in words:
        words = f"{words} (at {found.path})"
    said = f", Windows says: {words}" if words else ""
    return meaning.error(f"{what}: {meaning.cause} ({meaning.name}, 0x{meaning.code:08X}){said}", hint=meaning.cure)


def socket_error(what: str, error: OSError) -> PropolisError:
    """The exception for a Winsock call that failed."""
    number = getattr(error, "winerror", None) or error.errno or 0
    meaning = _BY_CODE.get(from_win32(number))
    if meaning is None:
        return BackendError(f"{what}: {error.strerror or error}", hint=_REPORT)
    return meaning.error(f"{what}: {meaning.cause} ({meaning.name}, {number})", hint=meaning.cure)


def _shortened(text: str) -> str:
    text = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * _MOST_TEXT]).split())
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}..."
