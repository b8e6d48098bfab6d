"""The verdict's logic; that guest code really runs is shown in tests/interop/test_kvm_probe.py."""

import json

import pytest

from propolis.hypervisor.base import Availability
from propolis.hypervisor.kvm import _ffi, probe, trial


@pytest.mark.parametrize(
    ("exit_reason", "seconds", "usable", "words"),
    [
        (_ffi.KVM_EXIT_HLT, 0.0001, True, "runs guest code"),
        (_ffi.KVM_EXIT_HLT, 0.2, False, "emulates guest code"),
        (_ffi.KVM_EXIT_INTERNAL_ERROR, 0.0001, False, "KVM_EXIT_INTERNAL_ERROR"),
        (_ffi.KVM_EXIT_SHUTDOWN, 0.0001, False, "KVM_EXIT_SHUTDOWN"),
        (77, 0.0001, False, "exit 77"),
    ],
)
def test_the_verdict_follows_how_guest_code_ended_and_how_fast(exit_reason, seconds, usable, words):
    verdict = trial._judge(exit_reason, seconds)
    assert (verdict.usable, words in verdict.reason) == (usable, True)
    assert verdict.usable or verdict.remedy


@pytest.mark.parametrize(("fault", "words"), [(FileNotFoundError, "does not exist"), (PermissionError, "permission")])
def test_a_device_that_does_not_open_is_told_apart(monkeypatch, tmp_path, fault, words):
    def refuse(*_arguments):
        raise fault

    monkeypatch.setattr(probe.os, "open", refuse)
    verdict = probe.probe(tmp_path)
    assert not verdict.usable
    assert words in verdict.reason


def test_a_remembered_verdict_is_used_only_for_this_boot(monkeypatch, tmp_path):
    device = tmp_path / "device"
    device.touch()
    ran = []
    monkeypatch.setattr(trial, "run_guest_code", lambda _kvm: ran.append(1) or Availability.unusable("tried"))
    monkeypatch.setattr(probe.system, "boot_id", lambda: "first")
    assert [probe.probe(tmp_path, device).reason, probe.probe(tmp_path, device).reason, len(ran)] == [
        "tried",
        "tried",
        1,
    ]
    monkeypatch.setattr(probe.system, "boot_id", lambda: "second")
    probe.probe(tmp_path, device)
    assert len(ran) == 2
    (tmp_path / "kvm-second.json").write_text("{damaged")
    probe.probe(tmp_path, device)
    assert len(ran) == 3
    assert json.loads((tmp_path / "kvm-second.json").read_text())["reason"] == "tried"
