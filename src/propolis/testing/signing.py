"""Signs images in a registry of `testing.registry` as cosign does, with whatever key the caller has.

Follows cosign's SIGNATURE_SPEC; bundles as cosign attaches them from version 3 on, by a tag in place of referrers.
"""

import base64
import json
from collections.abc import Callable
from typing import Any

from propolis.image import digest as digests
from propolis.image.manifest import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from propolis.image.trust.signature import (
    BUNDLE_TYPE,
    SIGN_PREDICATE,
    SIGNATURE_ANNOTATION,
    SIMPLE_TYPE,
    Signature,
)
from propolis.testing.registry import Registry

Sign = Callable[[bytes], bytes]
"""A private key's work: a signature, of what it is given (ECDSA and RSA over SHA-256, or Ed25519)."""
_EMPTY = "application/vnd.oci.empty.v1+json"


def payload(digest: str, reference: str) -> bytes:
    """What cosign signs: that `digest` is called `reference`, a repository with or without a tag."""
    critical = {
        "identity": {"docker-reference": reference},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }
    return json.dumps({"critical": critical, "optional": None}, separators=(",", ":")).encode()


def sign(registry: Registry, name: str, digest: str, sign: Sign, *, reference: str | None = None) -> None:
    """Add a signature of the image `digest` in the repository `name`; `reference` is by default what cosign writes."""
    data = payload(digest, f"{registry.address}/{name}" if reference is None else reference)
    attach(registry, name, digest, data, sign(data))


def attach(registry: Registry, name: str, digest: str, payload: bytes, signature: bytes) -> None:
    """Add a signature, whatever it is worth."""
    tag = f"{digest.replace(':', '-')}.sig"
    known = registry.manifests.get((name, tag))
    layers: list[dict[str, Any]] = json.loads(known[0])["layers"] if known else []
    layer = _descriptor(registry, payload, SIMPLE_TYPE)
    layers.append(layer | {"annotations": {SIGNATURE_ANNOTATION: base64.b64encode(signature).decode()}})
    config = {"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor(registry, json.dumps(config).encode(), OCI_CONFIG),
        "layers": layers,
    }
    registry.put(name, tag, document, OCI_MANIFEST)


def sign_bundle(registry: Registry, name: str, digest: str, sign: Sign, *, predicate: str = SIGN_PREDICATE) -> None:
    """Add a sigstore bundle for the image `digest`; with another `predicate` it attests something else."""
    algorithm, _, value = digest.partition(":")
    subject = [{"name": "", "digest": {algorithm: value}}]
    statement = {"_type": "https://in-toto.io/Statement/v1", "subject": subject, "predicateType": predicate}
    data = json.dumps(statement | {"predicate": {}}).encode()
    signature = sign(Signature(payload=data, signature=b"", is_bundle=True).signed)
    envelope = {
        "payload": base64.b64encode(data).decode(),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"sig": base64.b64encode(signature).decode()}],
    }
    bundle = {"mediaType": BUNDLE_TYPE, "verificationMaterial": {"publicKey": {"hint": ""}}, "dsseEnvelope": envelope}
    attach_bundle(registry, name, digest, json.dumps(bundle).encode())


def attach_bundle(registry: Registry, name: str, digest: str, bundle: bytes) -> None:
    """Add a bundle, whatever it is worth, as a referrer of the image `digest`."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": BUNDLE_TYPE,
        "config": _descriptor(registry, b"{}", _EMPTY),
        "layers": [_descriptor(registry, bundle, BUNDLE_TYPE)],
    }
    referrer = registry.put(name, f"referrer-{digests.of(bundle)[-12:]}", document, OCI_MANIFEST)
    tag = digest.replace(":", "-")
    known = registry.manifests.get((name, tag))
    listed: list[dict[str, Any]] = json.loads(known[0])["manifests"] if known else []
    size = len(registry.manifests[name, referrer][0])
    listed.append({"mediaType": OCI_MANIFEST, "artifactType": BUNDLE_TYPE, "digest": referrer, "size": size})
    registry.put(name, tag, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}, OCI_INDEX)


def _descriptor(registry: Registry, data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": registry.put_blob(data), "size": len(data)}
