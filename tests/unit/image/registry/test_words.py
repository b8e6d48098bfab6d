import json

import pytest

from propolis.image.registry.words import words


def said(document, secrets=()):
    return words(json.dumps(document).encode(), secrets)


def test_errors_are_told_with_their_codes():
    assert said({"errors": [{"code": "DENIED", "message": "no"}]}) == ": no (DENIED)"
    assert said({"errors": [{"code": "A"}, {"message": "b"}, {}, {"code": "D"}]}) == ": A; b"
    assert said({"details": "incorrect username or password"}) == ": incorrect username or password"
    assert said({"message": "m"}) == ": m"


def test_they_are_bounded_and_steer_no_terminal():
    assert said({"errors": [{"message": "a\x1b[2J\r\nb\u202e"}]}) == ": a[2J b"
    assert len(said({"errors": [{"message": "x" * 100_000, "code": "y" * 1000}] * 50})) < 1300


def test_secrets_are_not_told_whoever_tells_them():
    assert said({"message": "your token is hunter2!"}, ["hunter2"]) == ": your token is ***!"
    assert "hunt" not in said({"message": "x" * 198 + "hunter2"}, ["hunter2"])


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"7", b'{"errors": 7}', b'{"errors": [7]}', b"[" * 100_000])
def test_nonsense_says_nothing(body):
    assert words(body) == ""
