"""The probe against this host's own /dev/kvm, judged by QEMU: does a guest under KVM really run?"""

import os
import subprocess
import time
from pathlib import Path

import pytest

from propolis.hypervisor.kvm.probe import probe

pytestmark = pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm cannot be opened here")


def test_the_verdict_comes_at_once_and_with_a_reason(tmp_path):
    before = time.thread_time()
    verdict = probe(tmp_path)
    assert time.thread_time() - before < 1.0
    assert verdict.reason
    assert verdict.usable or verdict.remedy
    assert list(tmp_path.iterdir())


def test_qemu_agrees(tmp_path):
    """SeaBIOS under KVM either gets to its debug port or it does not."""
    log = tmp_path / "bios.log"
    command = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-nodefaults", "-display", "none", "-m", "64M"]
    command += ["-chardev", f"file,id=bios,path={log}", "-device", "isa-debugcon,iobase=0x402,chardev=bios"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as qemu:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and qemu.poll() is None and "No bootable device" not in _text(log):
            time.sleep(0.05)
        booted = "No bootable device" in _text(log)
        qemu.kill()
    assert probe(tmp_path / "cache").usable == booted


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
