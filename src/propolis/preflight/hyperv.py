"""Does this Windows let us run machines on Hyper-V, and if not, which command changes that? Decided from facts alone.

Reading the facts is `hyperv_windows`'s part; the service itself is asked by the backend. What is needed is the Host
Compute Service, which every edition has with the feature Virtual Machine Platform, Home included.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from propolis.preflight.checks import Check, Verdict

OLDEST_BUILD = 19041
"""Windows 10 2004: the first with direct kernel boot of everything we put into a document."""
COMPUTE_SERVICE, NETWORK_SERVICE = "vmcompute", "hns"
SERVICES = (COMPUTE_SERVICE, NETWORK_SERVICE)
LIBRARY = "computecore.dll"
EXPORTS = (
    "HcsCloseComputeSystem",
    "HcsCloseOperation",
    "HcsCreateComputeSystem",
    "HcsCreateOperation",
    "HcsEnumerateComputeSystems",
    "HcsGetComputeSystemProperties",
    "HcsGetServiceProperties",
    "HcsGrantVmAccess",
    "HcsModifyComputeSystem",
    "HcsOpenComputeSystem",
    "HcsRevokeVmAccess",
    "HcsSetComputeSystemCallback",
    "HcsShutDownComputeSystem",
    "HcsStartComputeSystem",
    "HcsTerminateComputeSystem",
    "HcsWaitForOperationResult",
)
"""What no machine can do without."""

_WINDOWS_11, _HOME, _SERVER = 22000, "Core", "Server"
_ELEVATED = "in an elevated terminal"


class Service(StrEnum):
    """How a service stands."""

    ABSENT = "absent"
    DISABLED = "disabled"
    STOPPED = "stopped"
    RUNNING = "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was read from a Windows. None where it could not be told."""

    build: int
    revision: int = 0
    edition: str
    """EditionID: Core (Home), Professional, Enterprise, ServerStandard, ..."""
    product: str
    """ProductName, which still says 10 on Windows 11."""
    machine: str
    """The native architecture, whatever the interpreter's is: x86_64, aarch64, or a number."""
    library: bool
    """Whether computecore.dll can be loaded."""
    missing_exports: tuple[str, ...] = ()
    services: Mapping[str, Service]
    hypervisor: bool | None
    """Whether a hypervisor runs; also true in a virtual machine without nested virtualization."""
    firmware_virtualization: bool
    """Means nothing while a hypervisor runs, which hides it."""
    second_level_translation: bool
    elevated: bool
    hyperv_administrator: bool

    @property
    def is_home(self) -> bool:
        """Windows Home, under any of its names (CoreN, CoreSingleLanguage, CoreCountrySpecific)."""
        return self.edition.startswith(_HOME)

    @property
    def is_server(self) -> bool:
        """Windows Server."""
        return self.edition.startswith(_SERVER)


def judge(facts: Facts) -> list[Check]:
    """All checks, in the order in which their remedies should be followed."""
    return [_windows(facts), _architecture(facts), _virtualization(facts), _compute_service(facts), _rights(facts)]


def _failure(name: str, found: str, remedy: str) -> Check:
    return Check(name=name, verdict=Verdict.FAILURE, found=found, remedy=remedy)


def _windows(facts: Facts) -> Check:
    product = facts.product
    if facts.build >= _WINDOWS_11 and not facts.is_server:
        product = product.replace("Windows 10", "Windows 11")
    found = f"{product}, build {facts.build}.{facts.revision}"
    if facts.build < OLDEST_BUILD:
        return _failure(
            "windows",
            f"{found} is older than build {OLDEST_BUILD}",
            "update Windows: start ms-settings:windowsupdate" if not facts.is_server else "install Windows Server 2022",
        )
    return Check(name="windows", verdict=Verdict.OK, found=found)


def _architecture(facts: Facts) -> Check:
    if facts.machine != "x86_64":
        return _failure(
            "architecture", f"{facts.machine}: only x86-64 is supported on Windows yet", "use an x86-64 machine"
        )
    return Check(name="architecture", verdict=Verdict.OK, found=facts.machine)


def _virtualization(facts: Facts) -> Check:
    name = "virtualization"
    if facts.hypervisor:
        return Check(name=name, verdict=Verdict.OK, found="a hypervisor runs")
    if facts.hypervisor is None:
        return Check(
            name=name,
            verdict=Verdict.WARNING,
            found="whether a hypervisor runs cannot be told",
            remedy='see whether systeminfo ends with "A hypervisor has been detected"',
        )
    if not facts.second_level_translation:
        return _failure(
            name, "the processor has no second level address translation (EPT, NPT)", "use a processor from after 2010"
        )
    if not facts.firmware_virtualization:
        return _failure(
            name,
            "virtualization is turned off in the firmware, or this is a virtual machine that does not have it",
            "turn on VT-x or AMD-V (shutdown /r /fw /t 0 enters the setup); for a virtual machine, on its host:"
            " Set-VMProcessor -VMName NAME -ExposeVirtualizationExtensions $true",
        )
    if not _has_platform(facts):
        return _failure(name, "no hypervisor runs, as the feature that brings it is off", _enable(facts))
    return _failure(
        name,
        "the hypervisor is installed but was not started with Windows",
        f"{_ELEVATED}: bcdedit /set hypervisorlaunchtype auto, then restart: shutdown /r /t 0",
    )


def _has_platform(facts: Facts) -> bool:
    return facts.library and facts.services.get(COMPUTE_SERVICE, Service.ABSENT) is not Service.ABSENT


def _enable(facts: Facts) -> str:
    if facts.is_server:
        return f"{_ELEVATED}: Install-WindowsFeature -Name Hyper-V -Restart"
    return f"{_ELEVATED}: dism /online /enable-feature /featurename:VirtualMachinePlatform /all, then restart"


def _compute_service(facts: Facts) -> Check:
    name = "compute service"
    feature = "the role Hyper-V" if facts.is_server else "the feature Virtual Machine Platform"
    service = facts.services.get(COMPUTE_SERVICE, Service.ABSENT)
    if not _has_platform(facts):
        missing = f"the service {COMPUTE_SERVICE}" if facts.library else LIBRARY
        return _failure(name, f"{feature} is not installed ({missing} is missing)", _enable(facts))
    if service is Service.DISABLED:
        return _failure(
            name,
            f"the service {COMPUTE_SERVICE} is disabled",
            f"{_ELEVATED}: sc.exe config {COMPUTE_SERVICE} start= demand",
        )
    if facts.missing_exports:
        return _failure(
            name,
            f"{LIBRARY} lacks {', '.join(facts.missing_exports)}",
            "update Windows: start ms-settings:windowsupdate",
        )
    told = ", ".join(f"{each} is {facts.services[each]}" for each in SERVICES if each in facts.services)
    return Check(name=name, verdict=Verdict.OK, found=told)  # a stopped one starts on demand


def _rights(facts: Facts) -> Check:
    if facts.elevated:
        return Check(name="rights", verdict=Verdict.OK, found="this process is elevated")
    if facts.hyperv_administrator:
        return Check(name="rights", verdict=Verdict.OK, found="the user is a Hyper-V administrator")
    elevate = "run it in an elevated terminal: Start-Process powershell -Verb RunAs"
    join = f"{_ELEVATED}: Add-LocalGroupMember -SID S-1-5-32-578 -Member $env:USERNAME, then sign out and in"
    return _failure(
        "rights",
        "this process is not elevated, and the user is no Hyper-V administrator",
        elevate if facts.is_home else f"{elevate}; or once, {join}",
    )
