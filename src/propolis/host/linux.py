"""The seam on Linux: /proc tells about processes and boots."""

import sys

assert sys.platform == "linux"

import os
from pathlib import Path

from propolis.host.posix import connect as connect
from propolis.host.posix import kill as kill
from propolis.host.posix import kill_group as kill_group
from propolis.host.posix import listen as listen
from propolis.host.posix import lock_file as lock_file
from propolis.host.posix import memory_bytes as memory_bytes
from propolis.host.posix import open_file as open_file
from propolis.host.posix import open_published as open_published
from propolis.host.posix import protect as protect
from propolis.host.posix import publish as publish
from propolis.host.posix import remove_file as remove_file
from propolis.host.posix import remove_tree as remove_tree
from propolis.host.posix import sync_directory as sync_directory

_STARTTIME = 19
"""Index of field 22, starttime in clock ticks since boot, counted after the command name (proc(5))."""


def process_start(pid: int) -> str | None:
    """See `Host.process_start`; a zombie counts as gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else f"{boot_id()}/{fields[_STARTTIME]}"


def boot_id() -> str:
    """See `Host.boot_id`."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def resident_bytes(pid: int) -> int:
    """See `Host.resident_bytes`."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
