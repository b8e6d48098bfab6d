"""What this host offers, told as data: name, verdict, what was found, what to do.

Only the host's own resources are looked at here; hypervisors and kernels are added where the rooms meet.
"""

import os
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from propolis.host import system

_LEAST_FREE = 1 << 30
_LEAST_MEMORY = 1 << 30


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def directory_check(name: str, directory: Path, variable: str) -> Check:
    """Can files be kept in `directory` (which need not exist yet), and is there room?"""
    existing = next(path for path in (directory, *directory.parents) if os.path.lexists(path))
    if not existing.is_dir():
        return Check(
            name=name,
            verdict=Verdict.FAILURE,
            found=f"{existing} is not a directory",
            remedy=f"move it away, or point {variable} at a directory",
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        return Check(
            name=name,
            verdict=Verdict.FAILURE,
            found=f"{existing} cannot be written to",
            remedy=f"point {variable} at a directory of yours",
        )
    free = shutil.disk_usage(existing).free
    found = f"{directory}, {free / (1 << 30):.1f} GiB free"
    if free < _LEAST_FREE:
        return Check(
            name=name, verdict=Verdict.WARNING, found=found, remedy=f"free some, or point {variable} elsewhere"
        )
    return Check(name=name, verdict=Verdict.OK, found=found)


def resources_check() -> Check:
    """Processors and memory of the host."""
    memory = system.memory_bytes()
    found = f"{os.cpu_count()} CPUs, {memory / (1 << 30):.1f} GiB of memory"
    if memory < _LEAST_MEMORY:
        return Check(
            name="resources", verdict=Verdict.WARNING, found=found, remedy="give machines less with --memory 128MiB"
        )
    return Check(name="resources", verdict=Verdict.OK, found=found)
