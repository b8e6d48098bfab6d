"""Where the guest's init is: one static program per architecture, built into `_bin` when the package is built.

`PROPOLIS_GUEST_INIT_DIR` names another directory with the same file names, for those who build their own.
"""

import os
from pathlib import Path

from propolis.errors import KernelError
from propolis.spec import Architecture

OVERRIDE = "PROPOLIS_GUEST_INIT_DIR"
_PACKAGED = Path(__file__).resolve().parent / "_bin"
_ELF = b"\x7fELF"


def init_path(architecture: Architecture) -> Path:
    """Return the path of the init program for guests of that architecture.

    Raises:
        KernelError: it is missing or no ELF file; the message names the path.
    """
    override = os.environ.get(OVERRIDE)
    path = (Path(override) if override else _PACKAGED) / f"init-{architecture}"
    hint = (
        f"Put init-{architecture} there, or unset {OVERRIDE}."
        if override
        else "Reinstall propolis, or in a checkout run `python hatch_build.py` (needs the package ziglang)."
    )
    try:
        with path.open("rb") as file:
            magic = file.read(len(_ELF))
    except OSError as error:
        raise KernelError(f"the guest's init is missing: {path} ({error.strerror})", hint=hint) from None
    if magic != _ELF:
        raise KernelError(f"the guest's init is not a program: {path}", hint=hint)
    return path
