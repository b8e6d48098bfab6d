import json

import pytest

from propolis.hypervisor.hyperv.events import parse_crash, parse_exit


@pytest.mark.parametrize(
    ("document", "kind", "words"),
    [
        ({"Status": 0, "ExitType": "GracefulExit"}, "GracefulExit", ""),
        ({"Status": -1070137082, "ExitType": "ForcedExit"}, "ForcedExit", ""),
        ({"ExitType": "UnexpectedExit"}, "UnexpectedExit", "no cause"),
        ({"Status": -2143878906, "ExitType": "UnexpectedExit"}, "UnexpectedExit", "crashed (0x80370106)"),
        ({"ExitType": "UnexpectedExit", "Attribution": [{"GuestCrash": {}}]}, "UnexpectedExit", "kernel crashed"),
        ({"ExitType": "X", "Attribution": [{"TripleFault": {"ErrorType": "y"}}]}, "X", "triple fault"),
        ({"Attribution": [{"OperationFailure": {"Detail": "no \x1bmemory"}}]}, "Unknown", "failed: no memory"),
        ({"Attribution": [{"VirtualDeviceFailure": None}]}, "Unknown", "a virtual device failed"),
        ({"Attribution": [{"WorkerExit": {"ExitCode": -1073741819}}]}, "Unknown", "ended with 0xC0000005"),
        ({"Attribution": [7, {}, {"New": 1}], "ExitType": 9, "Status": "z"}, "Unknown", ""),
    ],
)
def test_an_end_is_told_in_words(document, kind, words):
    found = parse_exit(json.dumps(document))
    assert found.kind == kind
    assert words in found.cause
    assert bool(words) == bool(found.cause)


@pytest.mark.parametrize("data", [None, "", "{", "[]", "[" * 5000, "x" * 2_000_000])
def test_an_event_without_a_document_is_an_end_all_the_same(data):
    assert parse_exit(data).kind == "Unknown"
    assert parse_crash(data) == "kernel panic"


def test_the_kernels_log_is_kept_from_its_end_and_printable():
    log = "early\n" * 10_000 + "Kernel panic - not syncing: \x1b[31mno init\n"
    text = parse_crash(json.dumps({"CrashLog": log, "CrashParameters": [1]}))
    assert len(text) <= 16 << 10
    assert text.endswith("not syncing: [31mno init\n")


def test_without_a_log_its_parameters_are_shown():
    text = parse_crash(json.dumps({"CrashParameters": [0x1234, "x", 2]}))
    assert text == "kernel panic, crash parameters 0x1234 0x2"
