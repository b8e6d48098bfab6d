import re

from propolis.preflight import _ffi, hyperv_windows
from propolis.preflight.checks import Check
from propolis.preflight.hyperv import EXPORTS, Service


def test_the_facts_of_this_windows_can_be_read():
    facts = hyperv_windows.read()
    assert facts.build >= 10240
    assert facts.machine in ("x86_64", "aarch64")
    assert facts.product.startswith("Windows")
    assert re.fullmatch(r"[A-Za-z0-9]+", facts.edition)
    assert set(facts.services) == {"vmcompute", "hns"}
    assert facts.library or not facts.missing_exports


def test_checks_come_of_them():
    names = [check.name for check in hyperv_windows.examine() if isinstance(check, Check)]
    assert names == ["windows", "architecture", "virtualization", "compute service", "rights"]


def test_services_are_told_apart():
    assert hyperv_windows._service("EventLog") in (Service.RUNNING, Service.STOPPED)
    assert hyperv_windows._service("no such service") is Service.ABSENT


def test_what_a_library_lacks_is_told():
    assert _ffi.missing_exports("kernel32.dll", ["CreateFileW", *EXPORTS[:2]]) == EXPORTS[:2]
