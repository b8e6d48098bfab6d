"""What the QEMU on this host can do: where it is, how old, and with which accelerator it can really run a guest."""

import re
import shutil
import subprocess
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

OLDEST = (6, 2)
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


def version(program: Path) -> tuple[int, int]:
    """Major and minor version that `program` reports of itself.

    Raises:
        BackendUnavailable: it does not start, or does not say.
    """
    try:
        result = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendUnavailable(f"{program} does not start: {error}", hint="install QEMU again") from error
    match = re.search(r"version (\d+)\.(\d+)", result.stdout)
    if match is None:
        raise BackendUnavailable(
            f"{program} does not tell its version: {result.stderr[:200]}", hint="install QEMU again"
        )
    return int(match[1]), int(match[2])


@lru_cache(maxsize=1)
def hardware() -> Availability:
    """Whether this host's hypervisor really runs guest code, and why not."""
    if sys.platform == "linux":
        return probe(cache_directory() / "probe")
    return Availability(usable=False, reason=f"no accelerator is probed on {sys.platform} yet")


def accelerator() -> Accelerator:
    """The best accelerator that works here, at last software emulation."""
    return KVM if hardware().usable else TCG
