"""The facts about this Windows that `hyperv` decides from. Nothing is changed, and no rights are needed."""

import sys

assert sys.platform == "win32"

import winreg

from propolis.host import windows, windows_security
from propolis.preflight import _ffi
from propolis.preflight.checks import Check
from propolis.preflight.hyperv import EXPORTS, LIBRARY, SERVICES, Facts, Service, judge

_NT = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"
_MACHINES = {_ffi.IMAGE_FILE_MACHINE_AMD64: "x86_64", _ffi.IMAGE_FILE_MACHINE_ARM64: "aarch64"}


def examine() -> list[Check]:
    """Whether machines can run on this Windows' Hyper-V, as far as can be seen without asking the service."""
    return judge(read())


def read() -> Facts:
    """The facts about this Windows."""
    exports = _exports()
    machine = _ffi.native_machine()
    return Facts(
        build=windows.build_number(),
        revision=_number("UBR"),
        edition=_text("EditionID"),
        product=_text("ProductName"),
        machine=_MACHINES.get(machine, hex(machine)),
        library=exports is not None,
        missing_exports=exports or (),
        services={name: _service(name) for name in SERVICES},
        hypervisor=_ffi.hypervisor_present(),
        firmware_virtualization=_ffi.has_processor_feature(_ffi.PF_VIRT_FIRMWARE_ENABLED),
        second_level_translation=_ffi.has_processor_feature(_ffi.PF_SECOND_LEVEL_ADDRESS_TRANSLATION),
        elevated=windows_security.is_elevated(),
        hyperv_administrator=windows_security.is_member(windows_security.HYPERV_ADMINISTRATORS),
    )


def _exports() -> tuple[str, ...] | None:
    try:
        return _ffi.missing_exports(LIBRARY, EXPORTS)
    except OSError:
        return None


def _service(name: str) -> Service:
    try:
        with _ffi.service(name) as opened:
            if _ffi.service_start_type(opened) == _ffi.SERVICE_DISABLED:
                return Service.DISABLED
            return Service.RUNNING if _ffi.service_state(opened) == _ffi.SERVICE_RUNNING else Service.STOPPED
    except OSError as error:
        if error.winerror != _ffi.ERROR_SERVICE_DOES_NOT_EXIST:
            raise
        return Service.ABSENT


def _value(name: str) -> object:
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _NT) as key:
            return winreg.QueryValueEx(key, name)[0]
    except FileNotFoundError:
        return None


def _text(name: str) -> str:
    return str(_value(name) or "unknown")


def _number(name: str) -> int:
    value = _value(name)
    return value if isinstance(value, int) else 0
