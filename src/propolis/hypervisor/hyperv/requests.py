"""One request to HCS, from submission to its result: an operation of its own, waited for in slices, always closed.

Plain blocking code, to be run in threads; it knows the library and codes, but no machine.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from propolis.hypervisor.hyperv import document, hresult
from propolis.hypervisor.hyperv._ffi import ComputeCore, Operation, Outcome, System

_SLICE = 200
"""Milliseconds after which somebody who gave up is noticed. What finishes sooner is told at once."""

TIMEOUTS = {
    "HcsCreateComputeSystem": 240.0,
    "HcsStartComputeSystem": 240.0,
    "HcsPauseComputeSystem": 240.0,
    "HcsResumeComputeSystem": 240.0,
    "HcsSaveComputeSystem": 240.0,
    "HcsShutDownComputeSystem": 30.0,
    "HcsTerminateComputeSystem": 30.0,
    "HcsGetComputeSystemProperties": 30.0,
    "HcsModifyComputeSystem": 60.0,
    "HcsEnumerateComputeSystems": 30.0,
}
"""Seconds that each request may take: those of hcsshim and WSL, which a loaded host is known to need."""


def _patient() -> bool:
    return False


def perform(
    core: ComputeCore, call: str, submit: Callable[[Operation], int], given_up: Callable[[], bool] = _patient
) -> Outcome:
    """Make one request and wait for its result; HCS_E_OPERATION_TIMEOUT when time or patience ran out first."""
    operation = core.create_operation()
    if operation is None:
        return Outcome(hresult.OUT_OF_MEMORY)
    try:
        code = submit(operation)
        if not Outcome(code).ok:
            return Outcome(code, core.operation_result(operation).document)  # it may say why, though it never began
        deadline = time.monotonic() + TIMEOUTS[call]
        while True:
            outcome = core.wait_for_operation(operation, _SLICE)
            if outcome.code != hresult.OPERATION_TIMEOUT:
                return outcome
            if time.monotonic() > deadline or given_up():
                return outcome
    finally:
        core.close_operation(operation)


def encode(value: Mapping[str, Any]) -> str:
    """A document as HCS is given it."""
    return json.dumps(value, separators=(",", ":"))


def decode(text: str | None) -> Any:
    """A result document, or None where there is none that can be read."""
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def properties(
    core: ComputeCore, system: System, given_up: Callable[[], bool] = _patient
) -> tuple[Outcome, dict[str, Any]]:
    """A system's basic properties: Id, RuntimeId, State and others."""
    call = "HcsGetComputeSystemProperties"
    outcome = perform(core, call, lambda operation: core.system_properties(system, operation), given_up)
    found = decode(outcome.document) if outcome.ok else None
    return outcome, found if isinstance(found, dict) else {}


def ours(core: ComputeCore) -> list[dict[str, Any]]:
    """The basic properties of every machine of ours that this user may see.

    Raises:
        BackendError: HCS does not say.
    """
    call, query = "HcsEnumerateComputeSystems", encode(document.ours())
    outcome = perform(core, call, lambda operation: core.enumerate_systems(query, operation))
    if not outcome.ok:
        raise hresult.error("Hyper-V does not list its machines", outcome.code, outcome.document, call=call)
    found = decode(outcome.document)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
