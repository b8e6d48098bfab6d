"""Signatures of images as cosign stores them, read from bytes that anybody may have written.

Pure. Two forms: a "simple signing" payload with its signature in an annotation (cosign's SIGNATURE_SPEC), and a
sigstore bundle, whose DSSE envelope holds an in-toto statement (cosign from version 3 on). Reading verifies nothing.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from propolis.errors import ImageInvalid
from propolis.image.digest import is_digest
from propolis.image.document import Fields
from propolis.image.trust.strict import check_keys, load, mapping, text

SIMPLE_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
BUNDLE_FAMILY = "application/vnd.dev.sigstore.bundle"
SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/v1"
MAX_PAYLOAD = 64 << 10
MAX_SIGNATURE = 2048
"""Bytes; RSA with 16384 bits."""
MAX_SIGNATURES = 64
"""Of one image."""
_STATEMENT_TYPE = "application/vnd.in-toto+json"
_STATEMENTS = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
_SIMPLE_SIGNED = "cosign container image signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature that somebody made of something."""

    payload: bytes
    """What is claimed."""
    signature: bytes
    is_bundle: bool = False

    @property
    def signed(self) -> bytes:
        """What the signature is of, byte by byte: the payload, in a bundle after DSSE's pre-authentication encoding."""
        if not self.is_bundle:
            return self.payload
        return f"DSSEv1 {len(_STATEMENT_TYPE)} {_STATEMENT_TYPE} {len(self.payload)} ".encode() + self.payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a payload says, once a key has been found to have signed it."""

    digests: tuple[str, ...]
    reference: str
    """What the image is called; empty where that is not said."""


def read_signatures(manifest: bytes, where: str) -> list[tuple[str, int, str]]:
    """The payloads in a manifest of cosign's: digest, size, and their signature in base64.

    Raises:
        ImageInvalid: it is no manifest.
    """
    found = []
    for layer in Fields.parse(manifest, where).objects("layers", MAX_SIGNATURES):
        signature = layer.strings_by_name("annotations").get(SIGNATURE_ANNOTATION)
        if layer.text("mediaType") == SIMPLE_TYPE and signature is not None:
            found.append((_digest(layer), layer.integer("size", MAX_PAYLOAD), signature))
    return found


def read_referrers(index: bytes, where: str) -> list[str]:
    """The digests of manifests that hold bundles.

    Raises:
        ImageInvalid: it is no index.
    """
    listed = Fields.parse(index, where).objects("manifests", 4096)
    return [_digest(item) for item in listed if item.text("artifactType", "").startswith(BUNDLE_FAMILY)][
        :MAX_SIGNATURES
    ]


def read_bundle_layer(manifest: bytes, where: str) -> tuple[str, int] | None:
    """Digest and size of the bundle that a manifest holds.

    Raises:
        ImageInvalid: it is no manifest.
    """
    for layer in Fields.parse(manifest, where).objects("layers", MAX_SIGNATURES):
        if layer.text("mediaType").startswith(BUNDLE_FAMILY):
            return _digest(layer), layer.integer("size", MAX_PAYLOAD)
    return None


def _digest(fields: Fields) -> str:
    digest = fields.text("digest")
    if not is_digest(digest):
        raise ImageInvalid(f"{fields.at('digest')} is {digest[:80]!r}, which is no digest")
    return digest


def simple(payload: bytes, signature: str) -> Signature | None:
    """A signature of the simple form; None where there is none in it."""
    decoded = _decoded(signature)
    return None if decoded is None else Signature(payload=payload, signature=decoded)


def bundled(bundle: bytes) -> Signature | None:
    """The signature in a bundle; None where it is not a signature of an image by a key."""
    try:
        envelope = mapping(load(bundle, "a bundle").get("dsseEnvelope"), "dsseEnvelope")
        kind = text(envelope.get("payloadType"), "payloadType")
        (signed,) = envelope.get("signatures", ())
        payload = base64.b64decode(text(envelope.get("payload"), "payload"), validate=True)
        signature = _decoded(mapping(signed, "signatures").get("sig"))
    except (ValueError, TypeError):
        return None
    if kind != _STATEMENT_TYPE or signature is None:
        return None
    return Signature(payload=payload, signature=signature, is_bundle=True)


def claim_of(signature: Signature) -> Claim:
    """What its payload says; ValueError says why it is no claim about an image."""
    document = load(signature.payload, "what is signed")
    return _statement(document) if signature.is_bundle else _simple(document)


def _simple(document: dict[str, Any]) -> Claim:
    check_keys(document, "what is signed", ("critical", "optional"))
    critical = mapping(document["critical"], "critical")
    check_keys(critical, "critical", ("type", "image", "identity"))
    if critical["type"] != _SIMPLE_SIGNED:
        raise ValueError("it is no signature of an image")
    image, identity = mapping(critical["image"], "image"), mapping(critical["identity"], "identity")
    check_keys(image, "image", ("docker-manifest-digest",))
    check_keys(identity, "identity", ("docker-reference",))
    if not isinstance(identity["docker-reference"], str):
        raise ValueError("docker-reference is not a string")
    digest = text(image["docker-manifest-digest"], "docker-manifest-digest")
    return Claim(digests=(digest,), reference=identity["docker-reference"])


def _statement(document: dict[str, Any]) -> Claim:
    if document.get("_type") not in _STATEMENTS:
        raise ValueError("it is no in-toto statement")
    if document.get("predicateType") != SIGN_PREDICATE:
        raise ValueError("it attests something else than that the image is signed")
    subjects = document.get("subject")
    if not isinstance(subjects, list) or len(subjects) > MAX_SIGNATURES:
        raise ValueError("it has no subjects, or too many")
    digests = [mapping(mapping(subject, "subject").get("digest"), "digest") for subject in subjects]
    return Claim(digests=tuple(f"{name}:{value}" for found in digests for name, value in found.items()), reference="")


def _decoded(signature: object) -> bytes | None:
    if not isinstance(signature, str) or len(signature) > 2 * MAX_SIGNATURE:
        return None
    try:
        return base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return None
