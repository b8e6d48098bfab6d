"""Entries become disks: one read-only file system per layer, one small writable one per machine.

Public: `build` makes disk files of images, tars and directories.
"""

from importlib import import_module
from typing import Any

_HOMES = {"BuiltDisk": "propolis.machine.build", "build": "propolis.machine.build"}
"""Above this room, because images are needed too; imported at first use, so that nothing here leans on it."""

__all__ = ["BuiltDisk", "build"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'propolis.disk' has no attribute {name!r}")
