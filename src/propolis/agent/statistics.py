"""What a machine uses of what it has: the guest's builtin `stats`, read."""

import json
from dataclasses import dataclass, fields
from typing import Any

from propolis.errors import ProtocolError


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatistics:
    """One process in the guest."""

    pid: int
    parent: int
    name: str
    state: str
    """One letter, as in proc(5)."""
    cpu_ms: int
    resident: int
    """Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A machine at one moment. Bytes and milliseconds, counted since its boot; 0 where its kernel does not tell."""

    uptime_ms: int
    load_permille: int
    """Of one minute, a thousand for each task that wanted to run."""
    cpus: int
    cpu_user_ms: int
    cpu_system_ms: int
    cpu_idle_ms: int
    cpu_steal_ms: int
    memory_total: int
    memory_free: int
    memory_available: int
    memory_cached: int
    memory_shared: int
    disk_total: int
    disk_free: int
    inodes_total: int
    inodes_free: int
    processes: tuple[ProcessStatistics, ...]


def read(output: bytes) -> Statistics:
    """What the builtin printed, as values.

    Raises:
        ProtocolError: it is not in the form it should have.
    """
    try:
        document = json.loads(output.decode(errors="surrogateescape"))
        processes = tuple(_of(ProcessStatistics, process) for process in document["processes"])
        whole: Statistics = _of(Statistics, document | {"processes": processes})
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ProtocolError("the guest's statistics are in no known form") from None
    return whole


def _of(kind: Any, document: dict[str, Any]) -> Any:
    values = {}
    for field in fields(kind):
        value = document.get(field.name, "" if field.type is str else 0)
        if field.type is int and (type(value) is not int or not 0 <= value < 1 << 63):
            raise ValueError
        if field.type is str and not isinstance(value, str):
            raise ValueError
        values[field.name] = value
    return kind(**values)
