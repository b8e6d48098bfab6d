"""What the QEMU on this host can do: where it is, what comes with it, and how it can really run a guest."""

import shutil
import sys
from functools import lru_cache
from pathlib import Path

from propolis.errors import BackendUnavailable
from propolis.host.directories import cache_directory
from propolis.hypervisor.base import Availability
from propolis.hypervisor.qemu.argv import KVM, TCG, Accelerator
from propolis.spec import Architecture

if sys.platform == "linux":
    from propolis.hypervisor.kvm.probe import probe

INSTALL_HINT = "install it: apt-get install qemu-system-x86 (Debian), brew install qemu (macOS)"


def binary(architecture: Architecture) -> Path:
    """QEMU's program for guests of `architecture`.

    Raises:
        BackendUnavailable: it is not on the PATH.
    """
    name = f"qemu-system-{architecture}"
    found = shutil.which(name)
    if found is None:
        raise BackendUnavailable(f"{name} is not installed", hint=INSTALL_HINT)
    return Path(found)


def firmware(program: Path) -> Path | None:
    """The small firmware beside `program` that does nothing but start a kernel; None where it is not installed.

    It comes with QEMU itself. SeaBIOS, which is used otherwise, takes 0.2 s longer in software emulation.
    """
    found = program.resolve().parent.parent / "share" / "qemu" / "qboot.rom"
    return found if found.is_file() else None


@lru_cache(maxsize=1)
def hardware() -> Availability:
    """Whether this host's hypervisor really runs guest code, and why not."""
    if sys.platform == "linux":
        return probe(cache_directory() / "probe")
    return Availability.unusable(f"no accelerator is probed on {sys.platform} yet")


def accelerator() -> Accelerator:
    """The best accelerator that works here, at last software emulation."""
    return KVM if hardware().usable else TCG
