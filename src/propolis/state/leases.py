"""What processes use of the cache, so that nobody collects it from under them.

A lease is a file `<cache>/leases/<random>`, locked by its owner as long as it uses what the lease names (digests and
diff_ids, for this room just names); its owner's death ends it. Whoever collects holds `<cache>/collect.lock` while it
looks for what is in use and takes the rest away; a lease is made and added to under the same lock. So what was found
after the lease has named it is there until the lease ends.

A lease that names nothing yet is for whoever does not know yet what it will need: it protects what is newer than it.
"""

import contextlib
import json
import os
import secrets
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from propolis.errors import CacheBusy, DiskError, StorageFull
from propolis.host import system
from propolis.host.files import LockTimeout, locked, storage_errors

_MAX_LEASE = 1 << 20
_PATIENCE = 60.0
"""Seconds that others may keep us from the cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One lease of a living process."""

    names: frozenset[str]
    """Empty: not known yet."""
    since: float
    """When it began, in seconds since the epoch as the file system has it."""
    machine: str
    """Name of the machine that it is for; empty for a pull, a load and the like."""


@contextlib.contextmanager
def collecting(cache: Path) -> Iterator[None]:
    """While this is held nobody else collects, and no lease is made or added to.

    Raises:
        StorageFull, DiskError: the cache cannot be written to.
        CacheBusy: somebody has held it for a minute; it usually takes much less than a second.
    """
    lock = cache / "collect.lock"
    with contextlib.ExitStack() as holding:
        try:
            holding.enter_context(locked(lock, patience=_PATIENCE))
        except LockTimeout as error:
            raise _busy(lock, error.holder) from None
        yield


def _busy(lock: Path, holder: int) -> CacheBusy:
    who = f"process {holder}" if holder else "another process"
    return CacheBusy(
        f"{who} has kept {lock} locked for {_PATIENCE:g} s",
        hint=f"if it was stopped, let it go on (kill -CONT {holder or 'PID'}); if it hangs, end it",
    )


def held(cache: Path) -> list[Held]:
    """The leases of living processes; those of dead ones are removed. To be asked while `collecting`.

    Raises:
        DiskError: a lease cannot be looked at, so nobody knows what it protects.
    """
    found = []
    for path in (cache / "leases").glob("*"):
        with storage_errors(path), contextlib.suppress(FileNotFoundError):
            descriptor = system.open_file(path, create=False)
            try:
                if system.lock_file(descriptor, wait=False):
                    path.unlink(missing_ok=True)
                else:
                    found.append(_read(descriptor))
            finally:
                os.close(descriptor)
    return found


class Lease:
    """What one piece of work uses. For several threads: after `release`, the other calls do nothing."""

    def __init__(self, cache: Path, machine: str = "") -> None:
        """Nothing is held yet. `machine` is the name of the machine it is for."""
        self._cache = cache
        self._machine = machine
        self._names: set[str] = set()
        self._path: Path | None = None
        self._owner = 0
        self._descriptor = -1
        self._released = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.release()

    def take(self) -> None:
        """Begin. In a cache that cannot be written to nothing is held: nor does anybody like us collect there.

        Raises:
            StorageFull: no room.
            CacheBusy: as `collecting`.
        """
        with self._lock:
            if self._released or self._path is not None:
                return
            path = self._cache / "leases" / secrets.token_hex(8)
            try:
                with collecting(self._cache), storage_errors(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self._descriptor = system.open_file(path, create=True)
                    self._path, self._owner = path, os.getpid()
                    system.lock_file(self._descriptor, wait=True)
                    self._write()
            except DiskError as error:
                self._close()
                if isinstance(error, StorageFull):
                    raise

    def add(self, names: Iterable[str]) -> None:
        """From now on these are used, too.

        Raises:
            StorageFull: no room.
            CacheBusy: as `collecting`.
        """
        with self._lock:
            if self._released or self._path is None:
                return
            self._names.update(names)
            with collecting(self._cache), storage_errors(self._path):
                self._write()

    def release(self) -> None:
        """End. Idempotent."""
        with self._lock:
            self._released = True
            self._close()

    def _close(self) -> None:
        if self._path is not None:
            if self._owner == os.getpid():  # a forked child does not end its parent's
                with contextlib.suppress(OSError):
                    self._path.unlink()
            self._path = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self) -> None:
        document = memoryview(json.dumps({"machine": self._machine, "names": sorted(self._names)}).encode())
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        while document:  # only ever longer than before
            document = document[os.write(self._descriptor, document) :]


def _read(descriptor: int) -> Held:
    """What a living process has written. Where that cannot be read, it may be using anything."""
    try:
        document = json.loads(os.read(descriptor, _MAX_LEASE))
        names, machine = frozenset(map(str, document["names"])), str(document["machine"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return Held(names=frozenset(), since=0, machine="")
    return Held(names=names, since=os.fstat(descriptor).st_mtime, machine=machine)
