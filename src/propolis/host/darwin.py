"""The seam on macOS: psutil tells about processes and boots. Not yet run on a Mac."""

import sys

assert sys.platform == "darwin"

import psutil

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


def process_start(pid: int) -> str | None:
    """See `Host.process_start`."""
    try:
        return repr(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def boot_id() -> str:
    """See `Host.boot_id`."""
    return repr(psutil.boot_time())


def resident_bytes(pid: int) -> int:
    """See `Host.resident_bytes`."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
