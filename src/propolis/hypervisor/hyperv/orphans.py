"""Machines whose owner died: ended, their grants taken back, struck from the ledger. Plain blocking code.

HCS ends a machine when its owner's handle goes, so there is mostly nothing left but grants. A system of ours that is in
nobody's ledger here belongs to another data directory, and is left alone.
"""

import contextlib
import time

from propolis.errors import BackendError, PropolisError
from propolis.hypervisor.hyperv import hresult, requests
from propolis.hypervisor.hyperv._ffi import ComputeCore, System
from propolis.hypervisor.hyperv.ledger import Entry, Ledger

_TERMINATION = 30.0
_POLL = 0.05


def orphans(ledger: Ledger) -> list[Entry]:
    """The machines in the ledger whose owner is dead."""
    return [entry for entry in ledger.entries() if entry.is_orphan]


def sweep(core: ComputeCore, ledger: Ledger) -> list[str]:
    """Undo what dead owners left; says what was done, a line for each machine. One that cannot be ended stays written.

    Raises:
        BackendError: HCS does not say which machines there are.
    """
    ledger.tidy()
    dead = orphans(ledger)
    if not dead:
        return []
    running = {str(found.get("Id", "")).lower() for found in requests.ours(core)}
    return [_undo(core, ledger, entry, runs=entry.identity in running) for entry in dead]


def _undo(core: ComputeCore, ledger: Ledger, entry: Entry, *, runs: bool) -> str:
    try:
        if runs:
            _end(core, entry.identity)
    except PropolisError as error:
        return f"machine {entry.identity} of a dead process cannot be ended: {error}"
    for path in entry.files:
        core.revoke_access(entry.identity, path)  # a file that is gone has taken its access list with it
    ledger.strike(entry.identity)
    ended = "ended, and " if runs else ""
    return f"machine {entry.identity} of a dead process: {ended}its access to {len(entry.files)} files taken back"


def _end(core: ComputeCore, identity: str) -> None:
    """Terminate a system that this process does not own, and wait until it is gone."""
    code, system = core.open_system(identity)
    if hresult.normal(code) in hresult.GONE:
        return
    if system is None:
        raise hresult.error("it cannot be opened", code, call="HcsOpenComputeSystem")
    try:
        call = "HcsTerminateComputeSystem"
        outcome = requests.perform(core, call, lambda operation: core.terminate_system(system, operation))
        if not outcome.ok and hresult.normal(outcome.code) not in hresult.GONE:
            raise hresult.error("it cannot be terminated", outcome.code, outcome.document, call=call)
        _await_end(core, system)
    finally:
        core.close_system(system)


def _await_end(core: ComputeCore, system: System) -> None:
    deadline = time.monotonic() + _TERMINATION
    while time.monotonic() < deadline:
        with contextlib.suppress(PropolisError):
            outcome, found = requests.properties(core, system)
            if hresult.normal(outcome.code) in hresult.GONE or found.get("State") == "Stopped":
                return
        time.sleep(_POLL)
    raise BackendError(f"it still runs {_TERMINATION:g} s after it was terminated")
