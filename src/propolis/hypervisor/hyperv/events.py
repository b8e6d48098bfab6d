"""What HCS says of a machine's end, from its event documents. Pure.

Every member may be absent, and the crash log is the guest's text: sizes are bounded, unprintable characters dropped.
"""

import json
from dataclasses import dataclass
from typing import Any

from propolis.hypervisor.hyperv import hresult

_MOST_DOCUMENT = 1 << 20
_MOST_LOG = 16 << 10
_MOST_DETAIL = 200


@dataclass(frozen=True, slots=True)
class Exit:
    """How a machine ended, as far as HCS knows. Advice: what the workload did, its agent has said."""

    kind: str
    """GracefulExit, ForcedExit, UnexpectedExit, or whatever else a Windows calls it."""
    status: int
    cause: str
    """In words; empty when it ended as machines should."""


def parse_exit(data: str | None) -> Exit:
    """Read a SystemExitStatus document."""
    document = _document(data)
    kind, status = document.get("ExitType"), document.get("Status")
    kind = kind[:_MOST_DETAIL] if isinstance(kind, str) else "Unknown"
    status = hresult.normal(status) if type(status) is int else 0
    attribution = document.get("Attribution")
    causes = [_cause(item) for item in attribution if isinstance(item, dict)] if isinstance(attribution, list) else []
    cause = "; ".join(dict.fromkeys(cause for cause in causes if cause))
    if not cause and kind == "UnexpectedExit":
        cause = f"{hresult.explain(status).cause} (0x{status:08X})" if status else "no cause was told"
    return Exit(kind, status, cause)


def parse_crash(data: str | None) -> str:
    """The text of a CrashReport document: the kernel's last log, or at least its crash parameters."""
    document = _document(data)
    log = document.get("CrashLog")
    if isinstance(log, str) and log.strip():
        return "".join(char for char in log[-_MOST_LOG:] if char.isprintable() or char in "\n\t")
    parameters = document.get("CrashParameters")
    if isinstance(parameters, list) and parameters:
        numbers = " ".join(f"{number:#x}" for number in parameters[:8] if type(number) is int)
        return f"kernel panic, crash parameters {numbers}"
    return "kernel panic"


def _document(data: str | None) -> dict[str, Any]:
    if not data or len(data) > _MOST_DOCUMENT:
        return {}
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _cause(attribution: dict[str, Any]) -> str:
    if "GuestCrash" in attribution:
        return "the guest's kernel crashed"
    if "TripleFault" in attribution:
        return "the guest's processor ended in a triple fault"
    if "VirtualDeviceFailure" in attribution:
        return _with_detail("a virtual device failed", attribution["VirtualDeviceFailure"])
    if "OperationFailure" in attribution:
        return _with_detail("an operation failed", attribution["OperationFailure"])
    if "WorkerExit" in attribution:
        worker = attribution["WorkerExit"]
        code = worker.get("ExitCode") if isinstance(worker, dict) else None
        told = f" with 0x{hresult.normal(code):08X}" if type(code) is int and code else ""
        return f"its worker process ended{told}" if told else ""
    return ""


def _with_detail(words: str, detail: Any) -> str:
    texts = [str(value)[:_MOST_DETAIL] for value in detail.values()] if isinstance(detail, dict) else []
    printable = " ".join("".join(char for char in text if char.isprintable()) for text in texts[:4])
    return f"{words}: {printable}" if printable.strip() else words
