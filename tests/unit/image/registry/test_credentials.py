import base64
import json
import sys
import threading
import time

import pytest

from propolis.errors import AccessDenied, InvalidArgument
from propolis.image.registry.credentials import Credentials, ask_helper, find_credentials

BOB = Credentials(username="bob", password="se:cret")
ENCODED = base64.b64encode(b"bob:se:cret").decode()


def docker_config(home, document):
    path = home / ".docker" / "config.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))


@pytest.fixture
def helper(home, monkeypatch):
    """Install docker-credential-NAME with a body in Python; `asked` is the server it was asked for."""

    if sys.platform == "win32":
        pytest.skip("a script is no program there")

    def install(name, body):
        path = home / "bin" / f"docker-credential-{name}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!{sys.executable}\nimport sys, time, json, os\nasked = sys.stdin.read()\n{body}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(path.parent))

    return install


@pytest.mark.parametrize(
    ("key", "domain", "repository"),
    [
        ("example.org:5000", "example.org:5000", "a/b"),
        ("https://example.org", "example.org", "a"),
        ("https://example.org/v2/", "example.org", "a"),
        ("https://index.docker.io/v1/", "docker.io", "library/busybox"),
        ("docker.io", "docker.io", "x/y"),
        ("example.org/a", "example.org", "a/b"),
        ("example.org/a/b", "example.org", "a/b"),
    ],
)
def test_what_docker_login_keeps_is_found(home, key, domain, repository):
    docker_config(home, {"auths": {key: {"auth": ENCODED}, "other.example": {"auth": "AAAA"}}})
    assert find_credentials(domain, repository) == BOB
    assert find_credentials("nobody.example", "x") is None


def test_the_most_specific_entry_counts(home):
    tokens = {key: {"identitytoken": key} for key in ("example.org", "example.org/a", "example.org/a/b")}
    docker_config(home, {"auths": tokens})
    for repository, key in (("a/b", "example.org/a/b"), ("a/c", "example.org/a"), ("ab", "example.org")):
        assert find_credentials("example.org", repository).identity_token == key


def test_podmans_file_comes_before_dockers(home, monkeypatch):
    docker_config(home, {"auths": {"a.b": {"identitytoken": "docker"}, "c.d": {"identitytoken": "docker"}}})
    (home / ".config/containers").mkdir(parents=True)
    (home / ".config/containers/auth.json").write_text('{"auths": {"a.b": {"identitytoken": "podman"}}}')
    assert find_credentials("a.b", "x").identity_token == "podman"
    assert find_credentials("c.d", "x").identity_token == "docker"
    other = home / "other.json"
    other.write_text('{"auths": {"a.b": {"username": "u", "password": "p"}}}')
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(other))
    assert find_credentials("a.b", "x") == Credentials(username="u", password="p")
    assert find_credentials("c.d", "x") is None
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({"auths": {"a.b": {"auth": ENCODED}}}))
    assert find_credentials("a.b", "x") == BOB


def test_secrets_are_in_no_representation():
    assert "se:cret" not in repr(BOB)
    assert "tok" not in repr(Credentials(identity_token="tok"))
    assert BOB.basic == f"Basic {ENCODED}"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "the document is not a JSON object"),
        ({"auths": []}, "auths is not a JSON object"),
        ({"auths": {"a.b": 7}}, r"auths\.a\.b is not a JSON object"),
        ({"auths": {"a.b": {"auth": "%%%"}}}, "not base64 of USER:PASSWORD"),
        ({"auths": {"a.b": {"auth": base64.b64encode(b"nocolon").decode()}}}, "not base64"),
        ({"credHelpers": {"a.b": "../../bin/sh"}}, "not the name of a credential helper"),
    ],
)
def test_a_broken_file_is_named(home, document, words):
    docker_config(home, document)
    with pytest.raises(InvalidArgument, match=words):
        find_credentials("a.b", "x")


@pytest.mark.parametrize("document", ["", "{}", {"auths": None}, {"auths": {"a.b": {}}}, {"auths": {"a.b": None}}])
def test_a_file_that_says_nothing_is_none(home, document):
    docker_config(home, document)
    assert find_credentials("a.b", "x") is None


def test_helpers_are_asked_for_their_registry(home, helper):
    helper("mine", 'json.dump({"Username": "bob", "Secret": asked + sys.argv[1]}, sys.stdout)')
    docker_config(home, {"credHelpers": {"a.b": "mine"}, "credsStore": "mine"})
    assert find_credentials("a.b", "x").password == "a.bget"
    assert find_credentials("c.d:5", "x").password == "c.d:5get"
    assert find_credentials("docker.io", "library/x").password == "https://index.docker.io/v1/get"
    helper("mine", 'json.dump({"Username": "<token>", "Secret": "t"}, sys.stdout)')
    assert find_credentials("a.b", "x") == Credentials(identity_token="t")


def test_a_store_that_is_not_installed_is_no_store_but_a_helper_is_missed(home):
    docker_config(home, {"credsStore": "nosuch"})
    assert find_credentials("a.b", "x") is None
    docker_config(home, {"credHelpers": {"a.b": "nosuch"}})
    with pytest.raises(AccessDenied, match=r"docker-credential-nosuch.*not installed"):
        find_credentials("a.b", "x")


@pytest.mark.parametrize(
    ("body", "timeout", "words"),
    [
        ("sys.exit(3)", 100, "status 3"),
        ('print("secret"); sys.exit(1)', 100, "failed for a.b with status 1"),
        ("print('nonsense')", 100, "nonsense"),
        ("print('[]')", 100, "nonsense"),
        ("""print('{"Username": 1, "Secret": 2}')""", 100, "nonsense"),
        ("os.write(1, b'x' * (2 << 20)); time.sleep(200)", 100, "1 MiB"),
        ("time.sleep(200)", 1, "did not answer"),
        ("os.close(1); time.sleep(200)", 1, "did not answer"),
    ],
)
def test_a_helper_that_fails_is_told_and_ends(helper, body, timeout, words):
    helper("bad", body)
    began = time.monotonic()
    with pytest.raises(AccessDenied, match=words) as caught:
        ask_helper("bad", "a.b", timeout=timeout)
    assert time.monotonic() - began < 90
    assert "secret" not in str(caught.value)


def test_a_helper_without_an_entry_is_anonymous(helper):
    helper("empty", 'print("credentials not found in native keychain"); sys.exit(1)')
    assert ask_helper("empty", "a.b") is None


@pytest.mark.parametrize("entry", [{"username": "\ud800", "password": "x"}, {"identitytoken": "\ud800"}])
def test_halves_of_characters_cannot_be_sent(home, entry):
    docker_config(home, {"auths": {"example.org": entry}})
    with pytest.raises(InvalidArgument, match=r"example\.org.*config\.json, is no text"):
        find_credentials("example.org", "a")


def test_nor_can_those_of_a_helper(home, helper):
    helper("x", 'print(json.dumps({"Username": "bob", "Secret": "\\ud800"}))')
    docker_config(home, {"credHelpers": {"example.org": "x"}})
    with pytest.raises(InvalidArgument, match="is no text"):
        find_credentials("example.org", "a")


def test_what_a_helper_leaves_behind_says_nothing(helper, capfd):
    helper("x", "os.fork() and os._exit(0); time.sleep(0.5); os.write(1, b'late')")
    with pytest.raises(AccessDenied, match="did not answer"):
        ask_helper("x", "example.org", timeout=0.2)
    for thread in threading.enumerate():
        if thread.name == "propolis-credential-helper":
            thread.join(10)
    assert capfd.readouterr() == ("", "")
