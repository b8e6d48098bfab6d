"""What may stand in signatures, policies and records: whatever it is, nothing is accepted that a key did not sign."""

import base64
import contextlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from propolis.errors import ImageInvalid, InvalidArgument, SignatureRejected
from propolis.image.digest import of
from propolis.image.manifest import Config, Platform
from propolis.image.reference import Reference, Transport
from propolis.image.registry.name import parse_name
from propolis.image.source import Found
from propolis.image.trust import signature as forms
from propolis.image.trust.identity import parse_identity
from propolis.image.trust.keys import load_key
from propolis.image.trust.policy import Key, parse_policy
from propolis.image.trust.records import SignatureRecords
from propolis.image.trust.verification import check
from propolis.testing.signing import payload

KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
DIGEST = of(b"an image")
WORDS = st.sampled_from(
    f"""type default transports docker sigstoreSigned keyPath keyData signedIdentity matchExact critical optional
    identity image docker-reference docker-manifest-digest subject digest layers manifests mediaType size annotations
    artifactType dsseEnvelope payload payloadType signatures sig _type predicateType sha256 {DIGEST}
    {forms.SIMPLE_TYPE} {forms.BUNDLE_TYPE} {forms.SIGN_PREDICATE} {forms.SIGNATURE_ANNOTATION}""".split()
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)
DOCUMENTS = st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())


@given(DOCUMENTS)
def test_any_bytes_may_be_a_policy(data):
    with contextlib.suppress(InvalidArgument):
        parse_policy(data, Path("/policy.json"))


@given(JSON)
def test_any_value_may_be_an_identity(value):
    with contextlib.suppress(ValueError):
        parse_identity(value, "x").accepts("a.example/b:1", parse_name("a.example/b:1"))


@given(DOCUMENTS)
def test_any_bytes_may_be_a_manifest_of_signatures(data):
    for read in (forms.read_signatures, forms.read_referrers, forms.read_bundle_layer):
        with contextlib.suppress(ImageInvalid):
            read(data, "x")


@given(DOCUMENTS, st.text(max_size=100) | JSON)
def test_any_bytes_may_be_a_payload_or_a_bundle(data, text):
    for found in (forms.simple(data, text), forms.bundled(data)):
        if found is not None:
            with contextlib.suppress(ValueError):
                forms.claim_of(found)
    for bundle in (True, False):
        with contextlib.suppress(ValueError):
            forms.claim_of(forms.Signature(payload=data, signature=b"", is_bundle=bundle))


@given(st.binary(max_size=400) | st.binary(max_size=60).map(lambda data: PEM[:30] + data + PEM[60:]))
def test_any_bytes_may_be_a_key(data):
    with contextlib.suppress(InvalidArgument):
        load_key(Key(data=data))(b"", b"")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DOCUMENTS)
def test_any_bytes_may_be_a_record(tmp_path, data):
    records = SignatureRecords(tmp_path)
    records.keep("a.example/b", DIGEST, [])
    (file,) = tmp_path.iterdir()
    file.write_bytes(data)
    for signature in records.read("a.example/b", DIGEST):
        assert isinstance(signature.payload, bytes)


class Source:
    """Has one signature."""

    def __init__(self, signature):
        self._signature = signature

    def kept_signatures(self, digest):
        return [self._signature]

    def fetch_signatures(self, digest, *, bundles):
        return [self._signature]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    file = tmp_path_factory.mktemp("policy") / "policy.json"
    requirement = {"type": "sigstoreSigned", "keyData": base64.b64encode(PEM).decode()}
    file.write_text(json.dumps({"default": [requirement | {"signedIdentity": {"type": "matchRepository"}}]}))
    return file


def allowed(policy, signature):
    name = parse_name("a.example/b:1")
    found = Found(
        digest=DIGEST, config=Config(platform=Platform(os="linux", architecture="amd64")), layers=(), name=name
    )
    try:
        check(policy, Reference(transport=Transport.DOCKER, path=None, name="a.example/b:1"), found, Source(signature))
    except SignatureRejected:
        return False
    return True


GOOD = payload(DIGEST, "a.example/b")
SIGNED = KEY.sign(GOOD)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255), st.integers(0, 63), st.integers(0, 255), st.booleans())
@example(0, 0, 0, 0, False)
def test_not_one_bit_may_be_another(policy, at, change, at_signature, change_signature, bundle):
    """The signature that was made is accepted, and none that differs from it."""
    data, signature = bytearray(GOOD), bytearray(SIGNED)
    data[at] ^= change
    signature[at_signature] ^= change_signature
    same = (bytes(data), bytes(signature), bundle) == (GOOD, SIGNED, False)
    assert allowed(policy, forms.Signature(payload=bytes(data), signature=bytes(signature), is_bundle=bundle)) is same


@given(DOCUMENTS)
def test_only_claims_about_the_image_count_even_if_signed(policy, data):
    assert not allowed(policy, forms.Signature(payload=data, signature=KEY.sign(data)))
