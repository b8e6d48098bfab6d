import json

import pytest

from propolis.errors import ImageInvalid
from propolis.image.document import MAX_DOCUMENT, Fields, load


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff\xfe{}", b"[" * 100_000, b'{"a": ' * 50_000, b"1" * 5000, b" " * (MAX_DOCUMENT + 1)],
)
def test_what_is_not_bounded_json_is_refused(data):
    with pytest.raises(ImageInvalid, match="the thing"):
        load(data, "the thing")


def test_null_counts_as_absent():
    fields = Fields.parse(b'{"a": null}', "x")
    assert "a" not in fields
    assert fields.text("a", "b") == "b"
    assert fields.texts("a", 1) == ()
    assert fields.mapping("a") is None
    assert fields.strings_by_name("a") == {}


@pytest.mark.parametrize(
    ("value", "read", "place"),
    [
        (1, lambda f: f.text("k"), "doc: o.k is not a string"),
        ("a\0b", lambda f: f.text("k"), "doc: o.k contains a NUL"),
        ("\ud800", lambda f: f.text("k"), "doc: o.k contains half"),
        (None, lambda f: f.text("k"), "doc: o.k is missing"),
        (True, lambda f: f.integer("k", 9), "doc: o.k is not a whole number"),
        (-1, lambda f: f.integer("k", 9), "doc: o.k is not between"),
        (1e3, lambda f: f.integer("k", 9), "doc: o.k is not a whole"),
        ({}, lambda f: f.texts("k", 9), "doc: o.k is not a list"),
        (["a", 1], lambda f: f.texts("k", 9), r"doc: o.k\[1\] is not a string"),
        (["a"] * 10, lambda f: f.texts("k", 9), "doc: o.k has 10 items"),
        ([1], lambda f: f.objects("k", 9), r"doc: o.k\[0\] is not a JSON object"),
        ([], lambda f: f.mapping("k"), "doc: o.k is not a JSON object"),
        ({"x": 1}, lambda f: f.strings_by_name("k"), "doc: o.k.x is not a string"),
    ],
)
def test_a_fault_names_its_field(value, read, place):
    fields = Fields.parse(json.dumps({"o": {"k": value}}).encode(), "doc").mapping("o")
    with pytest.raises(ImageInvalid, match=place):
        read(fields)


def test_a_document_that_is_no_object_is_refused():
    with pytest.raises(ImageInvalid, match="doc is not a JSON object"):
        Fields.parse(b"[]", "doc")


def test_a_long_key_of_a_strangers_own_is_not_shown_whole():
    fields = Fields.parse(json.dumps({"annotations": {"k" * 100_000: 1}}).encode(), "x")
    with pytest.raises(ImageInvalid, match="is not a string") as caught:
        fields.strings_by_name("annotations")
    assert len(str(caught.value)) < 200
