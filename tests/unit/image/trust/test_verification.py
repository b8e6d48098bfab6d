"""Signed and unsigned images, from `open_image` as everything opens them."""

import base64
import contextlib
import json
import sys
from functools import partial
from pathlib import Path

import pytest

from propolis.errors import ImageInvalid, InvalidArgument, RegistryUnreachable, SignatureRejected
from propolis.image import digest as digests
from propolis.image.manifest import OCI_INDEX, OCI_MANIFEST
from propolis.image.opening import open_image
from propolis.image.reference import Reference, Transport
from propolis.image.registry import signatures
from propolis.image.registry import source as sources
from propolis.image.registry.retry import Patience
from propolis.image.source import Found
from propolis.image.store import BlobStore
from propolis.image.trust import signature as forms
from propolis.image.trust.verification import check
from propolis.spec import Architecture, PullPolicy
from propolis.testing.images import write_layout
from propolis.testing.registry import Fault, FaultKind, Registry
from propolis.testing.signing import attach, attach_bundle, payload, sign, sign_bundle

AMD64 = Architecture.X86_64
REPOSITORY = {"signedIdentity": {"type": "matchRepository"}}
ANY_NAME = {"signedIdentity": {"type": "matchDigest"}}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """No configuration of this host."""
    monkeypatch.setenv("PROPOLIS_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PROPOLIS_SIGNATURE_POLICY", raising=False)


@pytest.fixture
def layout(tmp_path):
    write_layout(tmp_path / "image", [{"a": b"x"}])
    return tmp_path / "image"


@pytest.fixture
def registry(layout):
    with Registry() as registry:
        registry.push(layout, "app")
        yield registry


@pytest.fixture
def digest(registry):
    return digests.of(registry.manifests["app", "latest"][0])


@pytest.fixture
def opened(tmp_path, registry):
    def opening(policy=None, text=None, pull=PullPolicy.MISSING):
        return open_image(
            text or f"{registry.address}/app", AMD64, BlobStore(tmp_path / "blobs"), pull, signature_policy=policy
        )

    return opening


def requirement(*signers, **more):
    return {"type": "sigstoreSigned", "keyPaths": [str(signer.path) for signer in signers]} | REPOSITORY | more


def test_without_a_policy_nothing_is_asked(opened, registry):
    assert opened().digest
    assert registry.count(r"\.sig") == 0


@pytest.mark.parametrize("kind", ["p256", "rsa", "ed25519"])
def test_what_is_signed_is_used_and_what_is_not_is_refused(opened, registry, policy, digest, signer, kind):
    ours = signer(kind)
    file = policy(requirement(ours))
    with pytest.raises(SignatureRejected, match=f"there is no signature of {digests.short(digest)}") as caught:
        opened(file)
    assert str(file) in str(caught.value)
    assert "default[0]" in str(caught.value)
    assert str(ours.path) in caught.value.hint
    assert f"{registry.address}/app@{digest}" in caught.value.hint
    sign(registry, "app", digest, ours)
    assert opened(file).digest == digest


def test_any_of_the_keys_and_any_of_the_signatures_will_do(opened, registry, policy, digest, signer):
    one, two, other = signer(), signer("rsa"), signer("ed25519")
    sign(registry, "app", digest, other)
    with pytest.raises(SignatureRejected, match=r"none of its signatures counts \(1: it was made by another key\)"):
        opened(policy(requirement(one, two)))
    sign(registry, "app", digest, two)
    assert opened(policy(requirement(one, two))).digest == digest


def test_all_requirements_have_to_be_met(opened, registry, policy, digest, signer):
    one, two = signer(), signer()
    both = policy({"default": [requirement(one), requirement(two)]})
    sign(registry, "app", digest, one)
    with pytest.raises(SignatureRejected, match=r"default\[1\]"):
        opened(both)
    sign(registry, "app", digest, two)
    assert opened(both).digest == digest


def test_signatures_of_something_else_do_not_count(opened, registry, policy, digest, signer):
    ours = signer()
    place = f"{registry.address}/app"
    other = "sha256:" + "b" * 64

    def put(data, signature=None):
        registry.manifests.pop(("app", f"{digest.replace(':', '-')}.sig"), None)
        attach(registry, "app", digest, data, ours(data) if signature is None else signature)

    def document(**changes):
        found = json.loads(payload(digest, place))
        return json.dumps(found | changes).encode()

    critical = json.loads(payload(digest, place))["critical"]
    for data, words in {
        payload(other, place): "it is of another image, sha256:bbbbbbbbbbbb",
        payload(digest, "elsewhere.example/app"): "'elsewhere.example/app', not of",
        payload(digest, ""): "it is of '', not of",
        b"{": "not JSON",
        b"[]": "not an object",
        b"[" * 60000: "nested too deeply",
        document(extra=1): "'extra', which is not known",
        document(critical=critical | {"type": "atomic container signature"}): "no signature of an image",
        document(critical=critical | {"image": {}}): "no 'docker-manifest-digest'",
        document(critical=critical | {"identity": {"docker-reference": 7}}): "not a string",
        payload(digest, place).replace(b'"optional"', b'"critical":{},"optional"'): "twice",
    }.items():
        put(data)
        with pytest.raises(SignatureRejected, match=words):
            opened(policy(requirement(ours)))
    put(payload(digest, place), b"")
    with pytest.raises(SignatureRejected, match="another key"):
        opened(policy(requirement(ours)))
    put(payload(digest, place))
    assert opened(policy(requirement(ours))).digest == digest


def test_a_signed_index_vouches_for_its_manifests(opened, registry, policy, digest, signer):
    ours = signer()
    size = len(registry.manifests["app", digest][0])
    item = {"mediaType": OCI_MANIFEST, "digest": digest, "size": size}
    platform = {"platform": {"os": "linux", "architecture": "amd64"}}
    index = registry.put(
        "app", "multi", {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [item | platform]}, OCI_INDEX
    )
    multi = f"{registry.address}/app:multi"
    with pytest.raises(SignatureRejected, match=f"{digests.short(digest)} or {digests.short(index)}") as caught:
        opened(policy(requirement(ours)), multi)
    assert index in caught.value.hint
    sign(registry, "app", index, ours)
    assert opened(policy(requirement(ours)), multi).digest == digest
    # who asks for the manifest itself has not seen the index
    with pytest.raises(SignatureRejected):
        opened(policy(requirement(ours)), f"{registry.address}/app@{digest}")


def test_names_as_cosign_writes_them_have_no_tag_which_the_default_asks_for(opened, registry, policy, digest, signer):
    ours = signer()
    default = {"type": "sigstoreSigned", "keyPath": str(ours.path)}
    sign(registry, "app", digest, ours)
    with pytest.raises(SignatureRejected, match=f"not of '?{registry.address}/app:latest"):
        opened(policy(default))
    sign(registry, "app", digest, ours, reference=f"{registry.address}/app:latest")
    assert opened(policy(default)).digest == digest


def test_bundles_count_where_no_name_is_asked_for(opened, registry, policy, digest, signer):
    ours = signer()
    sign_bundle(registry, "app", digest, signer())
    sign_bundle(registry, "app", digest, ours, predicate="https://slsa.dev/provenance/v1")
    attach_bundle(registry, "app", digest, b"{}")
    with pytest.raises(SignatureRejected, match="2: it was made by another key; it attests something else"):
        opened(policy(requirement(ours, **ANY_NAME)))
    sign_bundle(registry, "app", "sha256:" + "c" * 64, ours)
    sign_bundle(registry, "app", digest, ours)
    with pytest.raises(SignatureRejected, match="there is no signature"):
        opened(policy(requirement(ours)))
    assert opened(policy(requirement(ours, **ANY_NAME))).digest == digest
    # and from what was kept
    registry.requests.clear()
    assert opened(policy(requirement(ours, **ANY_NAME))).digest == digest
    assert registry.requests == []
    with pytest.raises(SignatureRejected, match=r"none of its signatures|there is no signature"):
        opened(policy(requirement(ours)))


def test_a_bundle_does_not_pass_for_the_other_form(digest):
    assert forms.bundled(b"not JSON") is None
    signed = forms.Signature(payload=payload(digest, "x"), signature=b"", is_bundle=True)
    with pytest.raises(ValueError, match="no in-toto statement"):
        forms.claim_of(signed)
    assert signed.signed.startswith(b"DSSEv1 28 application/vnd.in-toto+json ")


def test_what_was_verified_once_starts_without_the_network(opened, registry, policy, digest, signer):
    ours = signer()
    sign(registry, "app", digest, ours)
    file = policy(requirement(ours))
    opened(file, pull=PullPolicy.ALWAYS)
    registry.requests.clear()
    for pull in (PullPolicy.MISSING, PullPolicy.NEVER):
        assert opened(file, pull=pull).digest == digest
    assert registry.requests == []


def test_an_image_pulled_before_there_was_a_policy_is_verified_too(opened, registry, policy, digest, signer):
    ours = signer()
    opened()
    file = policy(requirement(ours))
    with pytest.raises(SignatureRejected):
        opened(file, pull=PullPolicy.NEVER)
    with pytest.raises(SignatureRejected):
        opened(file)
    sign(registry, "app", digest, ours)
    with pytest.raises(SignatureRejected):
        opened(file, pull=PullPolicy.NEVER)
    assert opened(file).digest == digest
    assert opened(file, pull=PullPolicy.NEVER).digest == digest


def test_what_is_kept_is_verified_against_the_policy_of_today(opened, registry, policy, digest, signer):
    ours, other = signer(), signer()
    sign(registry, "app", digest, ours)
    opened(policy(requirement(ours)))
    with pytest.raises(SignatureRejected, match="another key"):
        opened(policy(requirement(other)))


def test_kept_signatures_that_were_tampered_with_are_no_use(opened, registry, policy, digest, signer, tmp_path):
    ours, other = signer(), signer()
    sign(registry, "app", digest, ours)
    opened(policy(requirement(ours)))
    (record,) = (tmp_path / "blobs/signatures").iterdir()
    whole = record.read_bytes()
    for damaged in (
        b"",
        b"[]",
        b"\xff",
        whole[: len(whole) // 2],
        whole.replace(b'"bundle": false', b'"bundle": true'),
        json.dumps({"signatures": [{"payload": 7, "signature": "", "bundle": False}]}).encode(),
        json.dumps(
            {
                "signatures": [
                    {
                        "payload": base64.b64encode(payload(digest, f"{registry.address}/app")).decode(),
                        "signature": base64.b64encode(other(payload(digest, f"{registry.address}/app"))).decode(),
                        "bundle": False,
                    }
                ]
            }
        ).encode(),
    ):
        record.write_bytes(damaged)
        with pytest.raises(SignatureRejected):
            opened(policy(requirement(ours)), pull=PullPolicy.NEVER)
    assert opened(policy(requirement(ours))).digest == digest
    assert opened(policy(requirement(ours)), pull=PullPolicy.NEVER).digest == digest


def test_a_tag_keeps_naming_what_was_allowed(opened, registry, policy, digest, signer, tmp_path):
    ours = signer()
    sign(registry, "app", digest, ours)
    file = policy(requirement(ours))
    opened(file)
    write_layout(tmp_path / "new", [{"a": b"evil"}])
    registry.push(tmp_path / "new", "app")
    with pytest.raises(SignatureRejected):
        opened(file, pull=PullPolicy.ALWAYS)
    assert opened(file).digest == digest


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"type": "reject"}, "the policy rejects it"),
        ({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}, "signatures of GPG, which cannot be verified"),
        ({"type": "sigstoreSigned", "fulcio": {}, "rekorPublicKeyData": "eA=="}, "cannot be verified here"),
    ],
)
def test_what_nothing_meets(opened, registry, policy, given, words):
    with pytest.raises(SignatureRejected, match=words):
        opened(policy(given))
    assert registry.count(r"\.sig") == 0


def test_images_on_this_host_are_allowed_by_place_alone(opened, policy, layout, signer, tmp_path):
    text = f"oci:{layout}"
    with pytest.raises(SignatureRejected, match="only in registries"):
        opened(policy(requirement(signer())), text)
    allowed = {str(tmp_path.resolve()): [{"type": "insecureAcceptAnything"}]}
    assert opened(policy({"default": [{"type": "reject"}], "transports": {"oci": allowed}}), text).digest
    with pytest.raises(SignatureRejected, match="the policy rejects it"):
        opened(policy({"default": [{"type": "reject"}], "transports": {"dir": allowed}}), text)


def test_what_comes_by_standard_input_lies_at_no_place(opened, policy, layout, monkeypatch, tmp_path):
    found = opened(text=f"oci:{layout}")
    found = Found(digest=found.digest, config=found.config, layers=found.layers)
    reference = Reference(transport=Transport.DOCKER_ARCHIVE, path=Path("-"))
    monkeypatch.chdir(tmp_path)
    accepted = [{"type": "insecureAcceptAnything"}]
    for scope, is_allowed in ((str(tmp_path.resolve()), False), ("", True)):
        file = policy({"default": [{"type": "reject"}], "transports": {"docker-archive": {scope: accepted}}})
        with contextlib.nullcontext() if is_allowed else pytest.raises(SignatureRejected):
            check(file, reference, found, None)


def test_where_the_policy_is(opened, policy, monkeypatch, tmp_path):
    file = policy({"type": "reject"})
    monkeypatch.setenv("PROPOLIS_SIGNATURE_POLICY", str(file))
    with pytest.raises(SignatureRejected):
        opened()
    monkeypatch.setenv("PROPOLIS_SIGNATURE_POLICY", str(tmp_path / "nosuch"))
    with pytest.raises(InvalidArgument, match="there is no signature policy"):
        opened()
    monkeypatch.setenv("PROPOLIS_SIGNATURE_POLICY", "")
    opened()
    (tmp_path / "config").mkdir()
    file.rename(tmp_path / "config/policy.json")
    with pytest.raises(SignatureRejected):
        opened()
    with pytest.raises(InvalidArgument, match="there is no signature policy"):
        opened(tmp_path / "nosuch")


@pytest.mark.skipif(sys.platform == "win32", reason="making links takes a privilege there")
def test_a_policy_that_is_a_link_to_nothing_lets_nothing_through(opened, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/policy.json").symlink_to(tmp_path / "nosuch")
    with pytest.raises(InvalidArgument, match="cannot read the signature policy"):
        opened()


def test_signatures_that_cannot_be_had_are_no_signatures(opened, registry, policy, digest, signer, monkeypatch):
    monkeypatch.setattr(sources, "Patience", partial(Patience, sleep=lambda seconds: None))
    ours = signer()
    sign(registry, "app", digest, ours)
    tag = rf"{digest.replace(':', '-')}\.sig"
    registry.arm(Fault(kind=FaultKind.DROP, request=tag, times=0))
    with pytest.raises(RegistryUnreachable):
        opened(policy(requirement(ours)))
    registry.faults.clear()
    registry.arm(Fault(kind=FaultKind.WRONG, request=tag, after=0, times=0))
    with pytest.raises(ImageInvalid, match="not JSON"):
        opened(policy(requirement(ours)))
    registry.faults.clear()
    blob = digests.of(payload(digest, f"{registry.address}/app"))
    registry.arm(Fault(kind=FaultKind.WRONG, request=f"blobs/{blob}", after=9, times=0))
    with pytest.raises(ImageInvalid, match="not what its digest names"):
        opened(policy(requirement(ours)))
    registry.faults.clear()
    assert opened(policy(requirement(ours))).digest == digest


def test_signatures_that_trickle_in_are_not_waited_for_one_by_one(
    opened, registry, policy, digest, signer, monkeypatch
):
    monkeypatch.setattr(signatures, "PATIENCE", 0.5)
    good, late = signer(), signer()
    sign(registry, "app", digest, good)
    sign(registry, "app", digest, late, reference="elsewhere.example/late")
    layers = json.loads(registry.manifests["app", f"{digest.replace(':', '-')}.sig"][0])["layers"]
    for layer in reversed(layers):
        registry.arm(Fault(kind=FaultKind.DRIP, request=layer["digest"], times=0))
        if layer is layers[1]:
            assert opened(policy(requirement(good))).digest, "what has come counts"
            with pytest.raises(SignatureRejected):
                opened(policy(requirement(late)))
    with pytest.raises(RegistryUnreachable, match=r"did not come .* in time"):
        opened(policy(requirement(late)))


def test_signatures_come_from_mirrors_as_images_do(opened, registry, layout, policy, digest, signer, tmp_path):
    ours = signer()
    (tmp_path / "config").mkdir()
    with Registry() as mirror:
        mirror.push(layout, "app")
        (tmp_path / "config/registries.conf").write_text(
            f'[[registry]]\nprefix = "app.example"\nlocation = "{registry.address}"\n'
            f'[[registry.mirror]]\nlocation = "{mirror.address}"\n'
        )
        file = policy(requirement(ours))
        with pytest.raises(SignatureRejected, match="there is no signature"):
            opened(file, "app.example/app")
        sign(registry, "app", digest, ours, reference="app.example/app")
        mirror.arm(Fault(kind=FaultKind.STATUS, status=403, request=r"\.sig", times=0))
        assert opened(file, "app.example/app").digest == digest
        sign(mirror, "app", digest, ours, reference="app.example/app")
    assert mirror.count("manifests")


def test_more_signatures_than_anybody_needs_are_refused(opened, registry, policy, digest, signer):
    ours = signer()
    for number in range(65):
        attach(registry, "app", digest, b"%d" % number, b"")
    with pytest.raises(ImageInvalid, match="at most 64"):
        opened(policy(requirement(ours)))
    assert registry.count("blobs") <= 2
