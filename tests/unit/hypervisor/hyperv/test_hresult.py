import json
import re
import socket

import pytest

import gen_windows_doc
from propolis.errors import BackendError, BackendUnavailable, StorageFull, Unsupported
from propolis.hypervisor.hyperv import hresult

NUMBERS = (
    *range(0x80370100, 0x80370103),
    *range(0x80370105, 0x80370120),
    *range(0xC03A0001, 0xC03A0020),
    *(0x80070002, 0x80070003, 0x80070005, 0x8007000E, 0x80070020, 0x80070032, 0x80070057, 0x80070070),
    *(0x80070422, 0x80070424, 0x80070426, 0x8007042C, 0x800705AA, 0x80041002, 0xC0370103),
    *(hresult.from_win32(number) for number in (10013, 10041, 10047, 10048, 10060, 10061)),
)
"""Every code of the reference, and those of the socket."""


@pytest.mark.parametrize("code", NUMBERS, ids=hex)
def test_every_code_of_the_reference_has_a_cause_and_a_cure_of_its_own(code):
    meaning = hresult.explain(code)
    assert meaning.cause
    assert meaning.cure
    assert not meaning.name.startswith(("unknown", "Win32 error"))


def test_no_two_codes_are_told_alike():
    said = [str(hresult.error("it failed", meaning.code)) for meaning in hresult.meanings()]
    assert len(set(said)) == len(said)
    causes = [meaning.cause for meaning in hresult.meanings()]
    twice = {cause for cause in causes if causes.count(cause) > 1}
    assert twice == {"no space left on the drive"}


@pytest.mark.parametrize("code", range(0x100, 0x120))
def test_the_old_form_of_a_code_means_the_same(code):
    assert hresult.explain(0xC0370000 | code) == hresult.explain(0x80370000 | code)
    assert hresult.explain((0x80370000 | code) - (1 << 32)) == hresult.explain(0x80370000 | code)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (0x80370102, BackendUnavailable),
        (0x8037011B, BackendUnavailable),
        (0x80370114, BackendUnavailable),
        (0x80070032, Unsupported),
        (0x80070070, StorageFull),
        (0x80370106, BackendError),
        (0x8000FFFF, BackendError),
    ],
)
def test_the_exception_is_the_one_a_caller_reacts_to(code, kind):
    assert type(hresult.error("it failed", code)) is kind


@pytest.mark.parametrize("code", [0x8000FFFF, 0x80071234, 1, -1, 0])
def test_of_an_unknown_code_something_is_said_too(code):
    error = hresult.error("the machine cannot be started", code)
    assert f"0x{code & 0xFFFFFFFF:08X}" in str(error)
    assert error.hint


def test_windows_words_and_the_place_in_the_document_are_shown():
    document = {
        "Error": -2143878899,
        "ErrorMessage": "not shown",
        "ErrorEvents": [{"Message": "Unknown field\n '$.VirtualMachine.Devices.Foo'"}, {"Message": "x" * 5000}, 7, {}],
    }
    said = str(hresult.error("the machine cannot be created", 0x8037010D, json.dumps(document)))
    assert "Unknown field '$.VirtualMachine.Devices.Foo'" in said
    assert len(said) < 1000
    far = {"ErrorEvents": [{"Message": "y" * 400 + " at $.VirtualMachine.Chipset"}]}
    found = hresult.parse(json.dumps(far))
    assert found.path == "$.VirtualMachine.Chipset"
    assert "(at $.VirtualMachine.Chipset)" in str(hresult.error("it failed", 0x8037010D, json.dumps(far)))


def test_the_documents_code_is_used_where_the_calls_own_says_nothing():
    document = json.dumps({"Error": 0xC03A001A - (1 << 32)})
    assert "sparse" in str(hresult.error("it failed", 0x8000FFFF, document))
    assert "sparse" not in str(hresult.error("it failed", 0x80370106, document))


def test_a_document_without_words_at_least_says_how_far_it_came():
    """As a real host answers at creation where its worker process may not be started, or may not open something."""
    document = {"Error": 0x80070569 - (1 << 32), "ErrorMessage": ""}
    document["Attribution"] = [{"OperationFailure": {"Detail": "Construct"}}]
    said = hresult.error("the machine cannot be created", 0x80070569, json.dumps(document))
    assert "log on as a service" in str(said)
    assert "Windows says: it failed at Construct" in str(said)
    for attribution in (7, [7], [{}], [{"OperationFailure": 7}], [{"OperationFailure": {"Detail": 7}}]):
        assert not hresult.parse(json.dumps(document | {"Attribution": attribution})).messages


def test_a_document_that_cannot_be_read_at_all_is_told():
    words = "The specified compute system configuration is invalid: (0x8007000D, 'Invalid JSON document '$'')."
    document = {"Error": 0x8007000D - (1 << 32), "ErrorEvents": [{"Message": words, "EventId": 11000}]}
    said = str(hresult.error("the machine cannot be created", 0x8007000D, json.dumps(document)))
    assert "ERROR_INVALID_DATA" in said
    assert words in said


@pytest.mark.parametrize(
    "document",
    [
        *("", "{", "[]", "7", "null", "[" * 5000),
        *('{"ErrorEvents": 3}', '{"ErrorEvents": [null, 3, {"Message": 9}]}', '{"Error": "x", "ErrorMessage": 4}'),
        *('{"ErrorMessage": "' + "z" * 300_000 + '"}', '{"Error": 1e400}'),
    ],
)
def test_whatever_comes_as_a_document_is_no_second_error(document):
    error = hresult.error("it failed", 0x80370106, document)
    assert len(str(error)) < 1000


def test_control_characters_of_a_document_do_not_reach_a_terminal():
    document = json.dumps({"ErrorEvents": [{"Message": "a\x1b[2Jb\u202ec\0"}]})
    assert re.fullmatch(r"[ -~]*", str(hresult.error("it failed", 0x80370106, document)))


def test_a_grant_that_is_refused_names_the_access_list():
    assert "access list" in str(hresult.error("no", 0x80070005, call="HcsGrantVmAccess"))
    assert "full" in str(hresult.error("no", 0x80070057, call="HcsGrantVmAccess"))
    assert "Administrators" in hresult.error("no", 0x80070005, call="HcsGetServiceProperties").hint


def test_an_error_of_the_socket_is_told_like_any_other():
    refused = hresult.socket_error("nobody can listen", OSError(10013, "denied"))
    assert "WSAEACCES" in str(refused)
    assert refused.hint
    assert type(hresult.socket_error("no", OSError(10047, "?"))) is BackendUnavailable
    assert "strange" in str(hresult.socket_error("no", OSError(4, "strange")))
    assert "later" in str(hresult.socket_error("no", socket.gaierror("later")))


def test_the_table_in_the_documentation_is_fresh():
    assert gen_windows_doc.main(["--check"]) == 0
