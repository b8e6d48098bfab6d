"""Which of the host's files a machine's account may open, for as long as the machine is there. Plain blocking code.

What lies in propolis' cache is shared by all machines and granted to their group, once and for good: that is how
Windows' own container images are kept, and no access list grows. Every other file is granted to the one machine, and
taken back.
"""

import os
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from propolis.errors import BackendError
from propolis.host.directories import cache_directory
from propolis.hypervisor.hyperv import hresult
from propolis.hypervisor.hyperv._ffi import ComputeCore, Outcome
from propolis.hypervisor.hyperv.ledger import Ledger
from propolis.hypervisor.hyperv.shared import SharedFiles
from propolis.spec import VMConfig

_MISSING = frozenset({0x80070002, 0x80070003})
_PATIENCE = 2.0
"""Seconds for which a machine's worker process may still hold its files after the machine's end."""
_POLL = 0.05


class Access:
    """What one machine was granted. `take_back` undoes `grant`, however far that came."""

    def __init__(
        self, core: ComputeCore, ledger: Ledger, shared: SharedFiles, identity: uuid.UUID, config: VMConfig
    ) -> None:
        self._core = core
        self._ledger = ledger
        self._shared_files = shared
        self._identity = identity
        self._own = [disk.path for disk in config.disks if not disk.read_only]
        self._single, self._shared = self._sorted(config)
        self._granted: list[Path] = []
        self.withheld: list[Path] = []
        """Files that are only read and whose access lists belong to somebody else; mostly all may read them anyhow."""
        self.proven = False
        """Whether a machine has started with these rights."""

    def grant(self, unwanted: threading.Event) -> None:
        """Let the machine open its files; ends early once nobody wants it.

        Raises:
            PropolisError: Windows refuses, or the ledger cannot be written.
        """
        self._ledger.write(self._identity, tuple(str(path) for path in self._single))
        for path in self._single:
            if unwanted.is_set():
                return
            self._granted.append(path)
            if not self._may(path, "HcsGrantVmAccess", self._core.grant_access(str(self._identity), str(path))):
                self._granted.remove(path)
        granted: list[Path] = []
        for path in self._shared_files.missing(self._shared):
            if unwanted.is_set():
                return
            if self._may(path, "HcsGrantVmGroupAccess", self._core.grant_group_access(str(path))):
                granted.append(path)
        if granted:
            self._shared_files.add(granted)

    def take_back(self, tell: Callable[[str], None]) -> None:
        """Take the rights back and wait until the machine's own disks are free; what fails is told, and stays written.

        Its owner can then delete them.
        """
        if self._shared and not self.proven:
            # perhaps it failed because what was granted to all machines once has been taken from them since
            self._shared_files.forget(self._shared)
        deadline = time.monotonic() + _PATIENCE
        failed = [path for path in self._granted if not self._revoke(path, deadline)]
        self._granted = []
        for path in self._own:
            while _in_use(path) and time.monotonic() < deadline:
                time.sleep(_POLL)
        if failed:
            tell(f"propolis: a machine's access to {failed[0]} could not be taken back")
        else:
            self._ledger.strike(str(self._identity))

    def _revoke(self, path: Path, deadline: float) -> bool:
        while True:
            code = self._core.revoke_access(str(self._identity), str(path))
            if Outcome(code).ok or hresult.normal(code) in _MISSING:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)

    def _sorted(self, config: VMConfig) -> tuple[list[Path], list[Path]]:
        """The files for this machine alone, and those for all."""
        single: list[Path] = []
        shared: list[Path] = []
        cache = Path(os.path.realpath(cache_directory())) if self._core.has("HcsGrantVmGroupAccess") else None
        read_only = [config.boot.kernel, config.boot.initramfs, *(disk.path for disk in config.disks if disk.read_only)]
        for path in dict.fromkeys(read_only):
            (shared if cache is not None and path.is_relative_to(cache) else single).append(path)
        return single + [path for path in self._own if path not in single], shared

    def _may(self, path: Path, call: str, code: int) -> bool:
        """Whether access was granted; False where it is withheld, and may be there all the same."""
        if Outcome(code).ok:
            return True
        if hresult.normal(code) == hresult.ACCESS_DENIED and path not in self._own:
            self.withheld.append(path)
            return False
        raise hresult.error(f"the machine cannot be given access to {path}", code, call=call)


class StateFile:
    """The file that a machine is saved to: it goes again unless it is kept, and the machine's right to it always."""

    def __init__(self, core: ComputeCore, identity: uuid.UUID, path: Path) -> None:
        self.name = str(path.absolute())
        self._core = core
        self._identity = str(identity)
        self._path = path
        self._made = self._kept = False

    def make(self) -> None:
        """Make it, empty, and let the machine write to it.

        Raises:
            BackendError: it exists, or Windows refuses.
        """
        what = f"the machine cannot be saved to {self._path}"
        if self._path.exists():
            raise BackendError(f"{what}, which exists", hint="name another file")
        self._made = True
        if not Outcome(code := self._core.create_empty_runtime_state(self.name)).ok:
            raise hresult.error(what, code, call="HcsCreateEmptyRuntimeStateFile")
        self.name = os.path.realpath(self.name)  # see `Platform.reach`
        if not Outcome(code := self._core.grant_access(self._identity, self.name)).ok:
            raise hresult.error(what, code, call="HcsGrantVmAccess")

    def keep(self) -> None:
        """The machine has been saved."""
        self._kept = True

    def release(self) -> None:
        """Take the machine's right to it back; remove it unless it is kept."""
        if self._made:
            self._core.revoke_access(self._identity, self.name)
        if self._made and not self._kept:
            self._path.unlink(missing_ok=True)


def _in_use(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR))
    except PermissionError:
        return True
    except OSError:
        return False
    return False
