"""The machines of one data directory, in SQLite.

A machine is recorded before its directory is made and forgotten after the directory is gone, so whatever instant a
process is killed at, a later one finds everything it left. Knows nothing of hypervisors.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from propolis.errors import InvalidArgument, MachineNotFound, NameInUse, StateError
from propolis.host import system
from propolis.host.files import locked, storage_errors
from propolis.state.record import MachineRecord, ProcessIdentity

SCHEMA_VERSION = 1
_BUSY_TIMEOUT = 30.0
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS machine (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    image TEXT NOT NULL,
    directory TEXT NOT NULL,
    owner_pid INTEGER NOT NULL,
    owner_start TEXT NOT NULL,
    vmm_pid INTEGER,
    vmm_start TEXT
) STRICT;
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


def this_process() -> ProcessIdentity:
    """The identity of the calling process."""
    start = system.process_start(os.getpid())
    assert start is not None
    return ProcessIdentity(pid=os.getpid(), start=start)


def is_running(process: ProcessIdentity) -> bool:
    """Whether that very process, and not a later one with its pid, still runs."""
    return system.process_start(process.pid) == process.start


def has_ended(machine: MachineRecord) -> bool:
    """Whether its hypervisor's process has, as far as there is one: its owner may not have noticed, or not care."""
    return machine.vmm is not None and not is_running(machine.vmm)


def _nobodys(_machine_id: str) -> bool:
    return False


class MachineStore:
    """Records of machines. Each call opens the database anew: calls are few and may come from any thread."""

    def __init__(self, data: Path) -> None:
        """Use the data directory `data`, which need not exist yet."""
        self._path = data / "state.db"
        self.machines = data / "machines"

    def add(self, record: MachineRecord, is_held: Callable[[str], bool] = _nobodys) -> None:
        """Remember a machine that is about to be made; sweeps before.

        Raises:
            NameInUse: a living machine has that name.
            StateError: the database is damaged.
        """
        self.sweep(is_held)
        with self._database() as database:
            try:
                database.execute(
                    "INSERT INTO machine (id, name, image, directory, owner_pid, owner_start)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (record.id, record.name, record.image, str(record.directory), record.owner.pid, record.owner.start),
                )
            except sqlite3.IntegrityError as error:
                raise NameInUse(
                    f"another machine is named {record.name!r}", hint="choose another --name, or stop that machine"
                ) from error

    def set_vmm(self, machine_id: str, vmm: ProcessIdentity) -> None:
        """Remember which process runs the machine, in case its owner dies without a word."""
        with self._database() as database:
            database.execute(
                "UPDATE machine SET vmm_pid = ?, vmm_start = ? WHERE id = ?", (vmm.pid, vmm.start, machine_id)
            )

    def list(self) -> list[MachineRecord]:
        """All machines that are remembered, by name; some may have died since."""
        if not self._path.exists():  # asking is no reason to write
            return []
        with self._database() as database:
            return [_record(row) for row in database.execute("SELECT * FROM machine ORDER BY name")]

    def dead(self) -> Sequence[MachineRecord]:
        """Those whose owner is dead, and of which something is left."""
        return [record for record in self.list() if not is_running(record.owner)]

    def living(self) -> Sequence[MachineRecord]:
        """Those of them whose owner runs."""
        return [record for record in self.list() if is_running(record.owner)]

    def find(self, name: str) -> MachineRecord:
        """The living machine called that: by name, by id, or by the beginning of its id.

        Raises:
            MachineNotFound: there is none.
            InvalidArgument: ids of several begin so.
        """
        living = self.living()
        exact = [record for record in living if name in (record.name, record.id)]
        found = exact or [record for record in living if name and record.id.startswith(name)]
        if not found:
            raise MachineNotFound(f"no machine that runs is called {name[:80]!r}", hint="see `propolis ps`")
        if len(found) > 1:
            raise InvalidArgument(f"the ids of {len(found)} machines begin with {name!r}", hint="write more of it")
        return found[0]

    def remove(self, record: MachineRecord) -> bool:
        """Delete the machine's directory, then forget it. Idempotent.

        False if that cannot be deleted: then it counts as a dead process', a sweep tries again, and its name is free.
        """
        system.remove_tree(record.directory)
        if record.directory.exists():
            self._keep(record)
            return False
        with self._database() as database:
            database.execute("DELETE FROM machine WHERE id = ?", (record.id,))
        return True

    def sweep(self, is_held: Callable[[str], bool] = _nobodys) -> int:
        """Remove machines whose owner is dead, and what still runs of them; returns how many.

        `is_held` says of an id whether a hypervisor still runs that machine: it stays, with its files, until later.
        """
        removed = 0
        for record in self.dead():
            if is_held(record.id):
                self._keep(record)
                continue
            if record.vmm is not None and is_running(record.vmm):
                system.kill(record.vmm.pid)
            removed += self.remove(record)
        return removed

    def _keep(self, record: MachineRecord) -> None:
        with self._database() as database:
            database.execute("UPDATE OR IGNORE machine SET name = id, owner_start = '' WHERE id = ?", (record.id,))

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT)) as database:
                self._prepare(database)
                with database:
                    yield database
        except sqlite3.OperationalError as error:
            raise StateError(
                f"the machine records cannot be written: {error}", hint=f"check space and permissions of {self._path}"
            ) from error
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError):
                raise
            raise StateError(
                f"the machine records are damaged: {error}",
                hint=f"move {self._path} away; running machines are not harmed",
            ) from error

    def _prepare(self, database: sqlite3.Connection) -> None:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == SCHEMA_VERSION:
            return
        if version != 0:
            raise StateError(
                f"{self._path} was written by another version of propolis (schema {version})",
                hint="update propolis, or point PROPOLIS_DATA at another directory",
            )
        with locked(self._path.with_name("state.lock")):  # changing the journal mode does not wait its turn by itself
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(_SCHEMA)


def _record(row: tuple[str, str, str, str, int, str, int | None, str | None]) -> MachineRecord:
    machine_id, name, image, directory, owner_pid, owner_start, vmm_pid, vmm_start = row
    vmm = ProcessIdentity(pid=vmm_pid, start=vmm_start) if vmm_pid is not None and vmm_start is not None else None
    return MachineRecord(
        id=machine_id,
        name=name,
        image=image,
        directory=Path(directory),
        owner=ProcessIdentity(pid=owner_pid, start=owner_start),
        vmm=vmm,
    )
