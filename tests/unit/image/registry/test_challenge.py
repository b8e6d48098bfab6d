import pytest

from propolis.image.registry.challenge import Challenge, parse_challenges


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        (
            'Bearer realm="https://a/token",service="b",scope="repository:c:pull,push"',
            [("bearer", {"realm": "https://a/token", "service": "b", "scope": "repository:c:pull,push"})],
        ),
        ('Bearer realm="a", Basic realm="b"', [("bearer", {"realm": "a"}), ("basic", {"realm": "b"})]),
        ('bearer REALM = "a"\t,\t service=b', [("bearer", {"realm": "a", "service": "b"})]),
        (r'Basic realm="a \"b\" \\ c"', [("basic", {"realm": r'a "b" \ c'})]),
        ("Negotiate", [("negotiate", {})]),
        ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        ("Negotiate YWJj==, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        (', ,Basic realm="x",,', [("basic", {"realm": "x"})]),
        ('Basic realm=""', [("basic", {"realm": ""})]),
        ('Basic realm="x", realm="y"', [("basic", {"realm": "x"})]),
        ('Basic realm="never ends', [("basic", {})]),
        ('Basic realm="x" nonsense="y"', [("basic", {})]),
        ("", []),
        ("=", []),
        ("@", []),
    ],
)
def test_fields_are_read_as_the_standard_has_them(text, expected):
    assert [(found.scheme, dict(found.parameters)) for found in parse_challenges([text])] == expected


def test_several_fields_are_one_list():
    assert parse_challenges(["Basic realm=a", "Bearer realm=b"]) == (
        Challenge("basic", {"realm": "a"}),
        Challenge("bearer", {"realm": "b"}),
    )


def test_what_is_too_much_is_not_read():
    assert parse_challenges(["Basic realm=" + "x" * 20_000]) == ()
    assert len(parse_challenges(["Basic, " * 1000])) == 16
    many = parse_challenges(["Bearer " + ",".join(f"p{number}=x" for number in range(1000))])
    assert len(many[0].parameters) <= 33
