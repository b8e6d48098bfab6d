"""Files that are there whole or not at all: staged beside their place, flushed, then renamed.

A staged file is locked by its writer for as long as it is being written, so a later run can tell a dead writer's
leftover from a living one's work (`sweep`). Knows nothing of what the files hold.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
import sys
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from propolis.errors import DiskError, StorageFull
from propolis.host import system

STAGE_PREFIX = ".staged-"
_DIRECTORY = ".d"
"""What the name of a staged directory has more than that of its lock."""
_LONGEST_PATH = 248
"""Characters of a directory's path on Windows, unless long paths are turned on; Hyper-V takes no longer ones either."""
_HOLDER = 20
"""Characters of a lock file that tell who has it."""
_SHORTEST_POLL, _LONGEST_POLL = 0.001, 0.05
_SECTOR = 512
"""Bytes of what stat(2) counts."""
_STAGED = re.compile(rf"{re.escape(STAGE_PREFIX)}.*-[0-9a-f]{{12}}", re.DOTALL)


@dataclass(slots=True)
class Staged:
    """A file on its way: write to `descriptor` or reopen `path`; it becomes `target` when the context ends well."""

    path: Path
    descriptor: int
    target: Path
    """May be changed to another name in the same directory."""


@contextlib.contextmanager
def stage(target: Path, *, mode: int = 0o644, durable: bool = True) -> Iterator[Staged]:
    """Open a new file beside `target`; on leaving without an exception, flush it and rename it to `target`.

    An existing target is replaced. On an exception nothing is left. `durable=False` skips the flushes: for files that
    do not outlive the process.

    Raises:
        StorageFull: no room while writing, flushing or creating.
        DiskError: the directory cannot be written to.
    """
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        path, descriptor = _open_locked(target, mode)
    with contextlib.ExitStack() as clean_up:
        clean_up.callback(path.unlink, missing_ok=True)
        closing = clean_up.enter_context(contextlib.ExitStack())
        closing.callback(os.close, descriptor)
        with storage_errors(target):
            staged = Staged(path, descriptor, target)
            yield staged
            if durable:
                os.fsync(descriptor)
            closing.pop_all()
            system.publish(descriptor, path, staged.target)
            if durable:
                system.sync_directory(target.parent)


class Scratch:
    """An empty file of our own in `directory`, gone when it is closed; one of a dead process goes at the next one.

    Raises:
        StorageFull, DiskError: as `stage`.
    """

    def __init__(self, directory: Path, name: str) -> None:
        target = directory / name
        with storage_errors(target):
            directory.mkdir(parents=True, exist_ok=True)
            sweep(directory)
            self.path, self.descriptor = _open_locked(target, 0o600)
        # who holds it may have no end of its own
        self.close = weakref.finalize(self, _remove, self.path, self.descriptor, os.getpid())
        """Remove it. Idempotent."""


def _remove(path: Path, descriptor: int, owner: int) -> None:
    if owner == os.getpid():  # at the end of a forked child it is still its parent's
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    os.close(descriptor)


def _open_locked(target: Path, mode: int) -> tuple[Path, int]:
    """A new file of our own; another one if somebody swept it before its lock was taken."""
    while True:
        path = target.with_name(f"{STAGE_PREFIX}{target.name[:80]}-{secrets.token_hex(6)}")
        descriptor = system.open_file(path, create=True, mode=mode)
        try:
            system.lock_file(descriptor, wait=True)
            if _is_there(path, descriptor):
                return path, descriptor
        except BaseException:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        os.close(descriptor)


def _is_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


@contextlib.contextmanager
def stage_directory(target: Path) -> Iterator[Path]:
    """A new private directory beside `target`, removed at the end with what is left in it.

    Those of writers that died are removed first. Its lock is a staged file beside it, as Windows locks no directories.

    Raises:
        OSError: it cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep_directories(target.parent)
    lock, descriptor = _open_locked(target, 0o600)
    path = lock.with_name(lock.name + _DIRECTORY)
    try:
        path.mkdir(mode=0o700)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _sweep_directories(parent: Path) -> None:
    for path in parent.glob(f"{STAGE_PREFIX}*{_DIRECTORY}"):
        lock = path.with_name(path.name.removesuffix(_DIRECTORY))
        if _STAGED.fullmatch(lock.name):
            with contextlib.suppress(OSError):
                _sweep_directory(path, lock)
    sweep(parent)  # now their locks


def _sweep_directory(path: Path, lock: Path) -> None:
    with contextlib.ExitStack() as opened:
        with contextlib.suppress(FileNotFoundError):  # its lock may have been swept, as any file whose writer is dead
            descriptor = system.open_file(lock, create=False)
            opened.callback(os.close, descriptor)
            if not system.lock_file(descriptor, wait=False):
                return
        shutil.rmtree(path, ignore_errors=True)


def write_atomically(target: Path, data: bytes, *, mode: int = 0o644, durable: bool = True) -> None:
    """Make `target` hold `data`, whole or not at all; errors as `stage`."""
    with stage(target, mode=mode, durable=durable) as staged, open(staged.descriptor, "wb", closefd=False) as file:
        file.write(data)


@contextlib.contextmanager
def storage_errors(target: Path) -> Iterator[None]:
    """Turn the host's storage faults around `target` into errors that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"no space left on the host while writing {target}",
                hint="free space there, or point PROPOLIS_CACHE and PROPOLIS_DATA at another file system",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise DiskError(
                f"cannot write {target}: {error.strerror}",
                hint="check the directory's owner and permissions (PROPOLIS_CACHE and PROPOLIS_DATA name other places)",
            ) from error
        if sys.platform == "win32" and error.errno == errno.ENOENT and len(str(target)) >= _LONGEST_PATH:
            raise DiskError(
                f"cannot write {target}: its path has more than {_LONGEST_PATH} characters, which Windows refuses",
                hint="use a shorter one (PROPOLIS_CACHE, PROPOLIS_DATA), or have Windows take long paths",
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise DiskError(
                f"cannot write {target}: a file is where a directory should be",
                hint="move it away, or point PROPOLIS_CACHE and PROPOLIS_DATA at directories",
            ) from error
        raise


def sweep(directory: Path) -> int:
    """Remove staged files in `directory` whose writer is dead; returns how many. A missing directory has none.

    What only looks like one, or belongs to somebody else, stays: the directory may be a user's own, or everybody's.
    """
    removed = 0
    for path in directory.glob(f"{STAGE_PREFIX}*"):
        if _STAGED.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            with contextlib.suppress(OSError):
                removed += _sweep_file(path)
    return removed


def _sweep_file(path: Path) -> bool:
    descriptor = system.open_file(path, create=False)
    try:
        dead = system.lock_file(descriptor, wait=False)
        if dead:
            path.unlink(missing_ok=True)
        return dead
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, *, patience: float | None = None) -> Iterator[None]:
    """Hold the lock file `path` exclusively among processes and threads; waits for whoever holds it.

    The file itself stays behind until `remove_lock`; where there is `patience`, in seconds, it tells who had it.

    Raises:
        StorageFull, DiskError: it cannot be made.
        LockTimeout: somebody else held it for longer than `patience`.
    """
    until = None if patience is None else time.monotonic() + patience
    while True:
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if until is None:
                system.lock_file(descriptor, wait=True)
            else:
                _lock_until(descriptor, until)
            if _is_there(path, descriptor):  # else it was removed before we had it, and guards nothing
                yield
                return
        finally:
            os.close(descriptor)


class LockTimeout(Exception):
    """Somebody held a lock for too long; `holder` is the number of a process, 0 where nothing tells."""

    def __init__(self, holder: int) -> None:
        super().__init__(f"locked by process {holder}")
        self.holder = holder


def _lock_until(descriptor: int, until: float) -> None:
    """Lock a lock file and say there who we are; nothing in the kernel waits only until then."""
    delay = _SHORTEST_POLL
    while not system.lock_file(descriptor, wait=False):
        if time.monotonic() > until:
            told = os.read(descriptor, _HOLDER).strip()
            raise LockTimeout(int(told) if told.isdigit() else 0)
        time.sleep(delay)
        delay = min(2 * delay, _LONGEST_POLL)
    with contextlib.suppress(OSError):  # no room
        os.write(descriptor, f"{os.getpid():<{_HOLDER}}\n".encode())


def remove_lock(path: Path) -> None:
    """Remove a lock file, unless somebody holds it. Not on Windows, where it could not be opened anew meanwhile."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        _sweep_file(path)


def retire(path: Path) -> Path | None:
    """Take a file out of use at once, to be removed at leisure: returns its new name, None if it is gone already.

    The name is one that `sweep` removes, in case that the caller is killed first.

    Raises:
        OSError: somebody has it open (on Windows), or the host does not let it be renamed.
    """
    retired = path.with_name(f"{STAGE_PREFIX}{path.name[:80]}-{secrets.token_hex(6)}")
    try:
        with contextlib.suppress(PermissionError):
            path.chmod(0o644)  # what cannot be written cannot be locked by whoever sweeps
        path.rename(retired)
    except FileNotFoundError:
        return None
    return retired


def allocated(path: Path) -> int:
    """Bytes that a file takes from the host, holes not counted.

    Raises:
        OSError: as `os.stat`.
    """
    status = path.stat()
    if sys.platform == "win32":  # where nothing tells blocks, and files of ours have no holes
        return status.st_size
    return status.st_blocks * _SECTOR
