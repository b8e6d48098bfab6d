"""What registries, users and files of configuration may say: whatever it is, only errors of ours come out, soon."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from propolis.errors import ImageError, InvalidArgument
from propolis.image.platforms import platform_of
from propolis.image.registry.challenge import parse_challenges
from propolis.image.registry.configuration import parse_configuration
from propolis.image.registry.credentials import find_credentials
from propolis.image.registry.name import parse_name
from propolis.image.registry.retry import retry_after
from propolis.image.registry.source import RegistrySource
from propolis.image.registry.words import words
from propolis.image.store import BlobStore
from propolis.spec import Architecture, PullPolicy
from propolis.testing.registry import Registry

TOKENS = st.text(st.sampled_from('abcXYZ019-._~+/="\\ ,\t'), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@given(st.lists(st.text(max_size=60), max_size=3))
def test_any_text_may_be_a_challenge(fields):
    for challenge in parse_challenges(fields):
        assert challenge.scheme == challenge.scheme.lower() != ""


PRINTABLE = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=10)
SCHEMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,8}", fullmatch=True)
PARAMETERS = st.dictionaries(st.from_regex(r"[a-z]{1,6}", fullmatch=True), PRINTABLE, max_size=4)


@given(st.lists(st.tuples(SCHEMES, PARAMETERS), max_size=4))
def test_what_is_written_well_is_read_back(challenges):
    def quoted(value):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = ", ".join(
        f"{scheme} {', '.join(f'{name}={quoted(value)}' for name, value in parameters.items())}".strip()
        for scheme, parameters in challenges
    )
    found = [(challenge.scheme, dict(challenge.parameters)) for challenge in parse_challenges([text])]
    assert found == [(scheme.lower(), parameters) for scheme, parameters in challenges]


@given(TOKENS)
def test_pieces_of_challenges_end(text):
    parse_challenges([f"Bearer realm={text}", text * 20])


@given(st.text(max_size=300) | st.from_regex(r"[a-z0-9._:/@-]{0,60}", fullmatch=True))
def test_any_text_may_be_a_name(text):
    try:
        name = parse_name(text)
    except InvalidArgument as error:
        assert len(str(error)) < 600
    else:
        assert parse_name(str(name)) == name


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_may_be_configuration(data):
    try:
        parse_configuration(data, "x")
    except InvalidArgument:
        pass


KEYS = st.sampled_from(
    ["location", "prefix", "insecure", "blocked", "mirror", "pull-from-mirror", "mirror-by-digest-only"]
)
VALUES = st.sampled_from(
    ['"a.b"', '"*.a.b"', '"a b"', '""', "true", "false", "7", "[]", "{}", '"docker.io"', '"x:1/y"']
)


@given(st.lists(st.tuples(KEYS, VALUES), max_size=5, unique_by=lambda pair: pair[0]), st.sampled_from(["a.b/x", "y"]))
def test_rules_of_all_kinds_give_origins_or_errors(pairs, name):
    text = "[[registry]]\n" + "".join(f"{key} = {value}\n" for key, value in pairs)
    try:
        configuration, _ = parse_configuration(text.encode(), "x")
        for candidate in configuration.candidates(name):
            assert configuration.origins(candidate)
    except (InvalidArgument, ImageError):
        pass


LOGIN = st.dictionaries(st.sampled_from(["auth", "username", "password", "identitytoken"]), JSON)
LOGINS = st.dictionaries(st.just("a.b"), JSON | LOGIN)


@given(JSON | st.dictionaries(st.sampled_from(["auths", "credHelpers", "credsStore"]), JSON | LOGINS))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_document_may_be_a_file_of_logins(tmp_path, document):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "none"))
        patch.setenv("PATH", "")
        patch.setenv("DOCKER_AUTH_CONFIG", json.dumps(document))
        try:
            find_credentials("a.b", "x")
        except (InvalidArgument, ImageError):
            pass


@given(st.binary(max_size=100) | JSON.map(lambda value: json.dumps(value).encode()), st.text(min_size=4, max_size=8))
def test_any_body_has_words_or_none(body, secret):
    assert words(body, [secret]).isprintable()


@given(st.text(max_size=70))
def test_any_text_may_be_retry_after(text):
    wait = retry_after(text)
    assert wait is None or wait >= 0


FIELDS = ("schemaVersion", "mediaType", "manifests", "config", "layers", "digest", "size", "platform", "urls")


@given(
    st.binary(max_size=100)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(FIELDS), JSON | st.just(2)).map(lambda value: json.dumps(value).encode()),
    st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=30),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_answer_may_be_a_manifest(registry, tmp_path, data, media_type):
    registry.put("app", "latest", data, media_type)
    source = RegistrySource(BlobStore(tmp_path / "blobs"), PullPolicy.ALWAYS)
    with pytest.raises(ImageError) as caught:
        source.find(f"{registry.address}/app", "", platform_of(Architecture.X86_64))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def registry():
    with Registry() as registry:
        yield registry
