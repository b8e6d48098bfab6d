"""Images that openssl signed, in Debian's docker-registry, where skopeo put them and their signatures as cosign does.

There is no cosign here, and Debian's skopeo is built without sigstore: openssl judges keys and signatures, skopeo what
a policy means, with signatures of GPG's where it takes some, securesystemslib envelopes.
"""

import base64
import json
import os
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from propolis.errors import SignatureRejected
from propolis.image import digest as digests
from propolis.image.manifest import OCI_CONFIG, OCI_MANIFEST
from propolis.image.opening import open_image
from propolis.image.registry.name import parse_name
from propolis.image.store import BlobStore
from propolis.image.trust.identity import parse_identity
from propolis.image.trust.keys import load_key
from propolis.image.trust.policy import Key
from propolis.image.trust.signature import SIGNATURE_ANNOTATION, SIMPLE_TYPE, Signature
from propolis.spec import Architecture
from propolis.testing.images import write_layout
from registries import PROGRAM, docker_registry

pytestmark = pytest.mark.skipif(
    any(shutil.which(program) is None for program in (PROGRAM, "skopeo", "openssl")),
    reason="needs docker-registry, skopeo and openssl",
)
KEYS = {
    "ec": (["ecparam", "-name", "prime256v1", "-genkey", "-noout"], ["dgst", "-sha256", "-sign"]),
    "rsa": (["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"], ["dgst", "-sha256", "-sign"]),
    "ed25519": (["genpkey", "-algorithm", "ed25519"], ["pkeyutl", "-sign", "-rawin", "-inkey"]),
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PROPOLIS_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with docker_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


def openssl(*arguments, **options):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, **options).stdout


def skopeo(*arguments):
    return subprocess.run(["skopeo", *map(str, arguments)], check=True, capture_output=True).stdout


def push(layout, name):
    skopeo("copy", "--insecure-policy", "--dest-tls-verify=false", f"oci:{layout}:latest", f"docker://{name}")


def push_signature(directory, name, payload, signature):
    """As cosign's SIGNATURE_SPEC has it, by way of a layout."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(data, media_type):
        digest = digests.of(data)
        (blobs / digest.partition(":")[2]).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    layer = blob(payload, SIMPLE_TYPE) | {"annotations": {SIGNATURE_ANNOTATION: base64.b64encode(signature).decode()}}
    config = {"architecture": "", "os": "", "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": blob(json.dumps(config).encode(), OCI_CONFIG),
        "layers": [layer],
    }
    item = blob(json.dumps(manifest).encode(), OCI_MANIFEST)
    item["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [item]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    push(directory, name)


@pytest.mark.parametrize("kind", KEYS)
def test_what_openssl_signed_is_accepted(registry, tmp_path, kind):
    make, sign = KEYS[kind]
    key, public = tmp_path / "cosign.key", tmp_path / "cosign.pub"
    openssl(*make, "-out", key)
    openssl("pkey", "-in", key, "-pubout", "-out", public)
    write_layout(tmp_path / "image", [{"a": kind.encode()}])
    push(tmp_path / "image", f"{registry}/{kind}:v1")
    shown = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{registry}/{kind}:v1"))
    digest = shown["Digest"]
    requirement = {"type": "sigstoreSigned", "keyPath": "cosign.pub", "signedIdentity": {"type": "matchRepository"}}
    policy = tmp_path / "policy.json"
    policy.write_text(
        json.dumps({"default": [{"type": "reject"}], "transports": {"docker": {registry: [requirement]}}})
    )

    def opened():
        store = BlobStore(tmp_path / "blobs")
        return open_image(f"{registry}/{kind}:v1", Architecture.X86_64, store, signature_policy=policy)

    with pytest.raises(SignatureRejected, match="there is no signature"):
        opened()
    critical = {
        "identity": {"docker-reference": f"{registry}/{kind}"},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }
    payload = json.dumps({"critical": critical, "optional": {"creator": "a test", "timestamp": 1458239713}}).encode()
    (tmp_path / "payload").write_bytes(payload)
    ending = ["-in", tmp_path / "payload"] if sign[0] == "pkeyutl" else [tmp_path / "payload"]
    signature = openssl(*sign, key, *ending)
    push_signature(tmp_path / "signature", f"{registry}/{kind}:{digest.replace(':', '-')}.sig", payload, signature)
    assert opened().digest == digest
    openssl(*make, "-out", key)  # another one
    openssl("pkey", "-in", key, "-pubout", "-out", public)
    with pytest.raises(SignatureRejected, match="another key"):
        opened()


@pytest.fixture(scope="module")
def gpg(tmp_path_factory):
    """A key of GPG's: its home, its fingerprint, and its public half in a file."""
    if shutil.which("gpg") is None:
        pytest.skip("gpg is not installed")
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)

    def run(*arguments):
        command = ["gpg", "--homedir", home, "--batch", "--passphrase", "", "--pinentry-mode", "loopback", *arguments]
        return subprocess.run(command, check=True, capture_output=True).stdout

    run("--quick-generate-key", "test@example.org", "rsa2048", "sign", "never")
    listed = run("--list-keys", "--with-colons").decode()
    (home / "public").write_bytes(run("--export"))
    yield home, next(line for line in listed.splitlines() if line.startswith("fpr")).split(":")[9]
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)


IDENTITIES = [
    {"type": "matchExact"},
    {"type": "matchRepoDigestOrExact"},
    {"type": "matchRepository"},
    {"type": "exactReference", "dockerReference": "vendor.example/app:v1"},
    {"type": "exactRepository", "dockerRepository": "vendor.example/app"},
    {"type": "remapIdentity", "prefix": "REGISTRY/team", "signedPrefix": "vendor.example"},
]
SIGNED = [
    "REGISTRY/team/app:v1",
    "REGISTRY/team/app:v2",
    "REGISTRY/team/app",
    "vendor.example/app:v1",
    "x.example/y:v1",
]


@pytest.fixture(scope="module")
def app(registry, tmp_path_factory):
    """An image, its digest, and where its signatures of GPG's are looked for."""
    directory = tmp_path_factory.mktemp("app")
    write_layout(directory / "image", [{"a": b"app"}])
    push(directory / "image", f"{registry}/team/app:v1")
    shown = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{registry}/team/app:v1"))
    (directory / "registries.d").mkdir()
    (directory / "registries.d/all.yaml").write_text(f"default-docker:\n  lookaside: file://{directory}/lookaside\n")
    return directory, shown["Digest"]


def skopeo_accepts(directory, policy, asked):
    command = ["skopeo", "--policy", policy, "--registries.d", directory / "registries.d", "copy"]
    command += ["--src-tls-verify=false", "--remove-signatures", f"docker://{asked}", f"dir:{directory / 'copy'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "Source image rejected" in done.stderr, done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("signed", SIGNED)
def test_names_match_as_skopeo_has_it(registry, app, gpg, signed, tmp_path, monkeypatch):
    """Each identity that a policy may ask for, with each that a signature may have."""
    directory, digest = app
    home, fingerprint = gpg
    monkeypatch.setenv("GNUPGHOME", str(home))
    name = signed.replace("REGISTRY", registry)
    (tmp_path / "manifest").write_bytes(
        skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry}/team/app:v1")
    )
    place = directory / "lookaside" / f"team/app@{digest.replace(':', '=')}"
    place.mkdir(parents=True, exist_ok=True)
    skopeo("standalone-sign", tmp_path / "manifest", name, fingerprint, "--output", place / "signature-1")
    answers = {}
    for identity in json.loads(json.dumps(IDENTITIES).replace("REGISTRY", registry)):
        requirement = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(home / "public")}
        (tmp_path / "policy.json").write_text(json.dumps({"default": [requirement | {"signedIdentity": identity}]}))
        for asked in (f"{registry}/team/app:v1", f"{registry}/team/app@{digest}"):
            ours = parse_identity(identity, "x").accepts(name, parse_name(asked))
            answers[identity["type"], asked] = (ours, skopeo_accepts(directory, tmp_path / "policy.json", asked))
    assert all(ours == skopeos for ours, skopeos in answers.values()), answers


SCOPES = [
    "REGISTRY",
    "HOST",
    "REGISTRY/team",
    "REGISTRY/tea",
    "REGISTRY/team/app",
    "REGISTRY/team/app:v1",
    "REGISTRY/team/app:v2",
    "REGISTRY/team/app@DIGEST",
    "*.0.0.1",
    "*.0.1",
    "*.0.0.1:PORT",
]


@pytest.mark.parametrize("scope", ["", *SCOPES])
def test_scopes_match_as_skopeo_has_it(registry, app, scope, tmp_path):
    directory, digest = app
    host, _, port = registry.partition(":")
    named = scope.replace("REGISTRY", registry).replace("HOST", host).replace("PORT", port).replace("DIGEST", digest)
    accept, reject = ([{"type": kind}] for kind in ("insecureAcceptAnything", "reject"))
    (tmp_path / "policy.json").write_text(json.dumps({"default": reject, "transports": {"docker": {named: accept}}}))
    for asked in (f"{registry}/team/app:v1", f"{registry}/team/app@{digest}"):
        try:
            store = BlobStore(tmp_path / "blobs")
            open_image(asked, Architecture.X86_64, store, signature_policy=tmp_path / "policy.json")
            ours = True
        except SignatureRejected:
            ours = False
        assert ours == skopeo_accepts(directory, tmp_path / "policy.json", asked), asked


@pytest.mark.parametrize("kind", ["ecdsa", "ed25519"])
def test_envelopes_are_read_as_others_make_them(kind):
    signer = CryptoSigner.generate_ecdsa() if kind == "ecdsa" else CryptoSigner.generate_ed25519()
    public = signer.public_key.keyval["public"].encode()
    if kind == "ed25519":  # which is not in PEM there
        raw = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public.decode()))
        public = raw.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    envelope = Envelope(b'{"_type": "https://in-toto.io/Statement/v1"}', "application/vnd.in-toto+json", {})
    signature = bytes.fromhex(envelope.sign(signer).signature)
    ours = Signature(payload=envelope.payload, signature=signature, is_bundle=True)
    assert ours.signed == envelope.pae()
    verify = load_key(Key(data=public))
    assert verify(ours.signature, ours.signed)
    assert not verify(ours.signature, ours.payload)
