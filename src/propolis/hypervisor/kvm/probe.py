"""Does KVM run guest code here? Found out by running some (`trial`), not by looking at /dev/kvm.

The verdict is cached per boot of the host.
"""

import sys

assert sys.platform != "win32"

import contextlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from propolis.errors import PropolisError
from propolis.host import system
from propolis.host.files import write_atomically
from propolis.hypervisor.base import Availability


def probe(cache: Path, device: str = "/dev/kvm") -> Availability:
    """The verdict for this boot of the host: from `cache` (a directory) if it is known, else by running guest code."""
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return Availability.unusable(
            f"{device} does not exist", "enable virtualization in the firmware, or nested virtualization"
        )
    except PermissionError:
        return Availability.unusable(
            f"no permission to open {device}", "join the group that owns it: sudo usermod -aG kvm $USER"
        )
    except OSError as error:
        return Availability.unusable(
            f"{device} cannot be opened: {error.strerror}", "load the kvm_intel or kvm_amd module"
        )
    try:
        remembered = cache / f"kvm-{system.boot_id()}.json"
        try:
            return Availability(**json.loads(remembered.read_bytes()))
        except (OSError, ValueError, TypeError):
            from propolis.hypervisor.kvm.trial import run_guest_code  # with ctypes; once in a boot

            verdict = run_guest_code(descriptor)
            with contextlib.suppress(PropolisError):  # a cache that cannot be written only costs the next run a probe
                write_atomically(remembered, json.dumps(asdict(verdict)).encode(), durable=False)
            return verdict
    finally:
        os.close(descriptor)
