"""Whether an image may be used, as a policy has it. Signatures come from the caller's source, kept ones first.

A signature counts if it is of the image's manifest, or of an index that led to it: an index names its manifests by
digest, so whoever signed it signed them.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from propolis.errors import SignatureRejected
from propolis.image.digest import short
from propolis.image.reference import Reference
from propolis.image.source import Found
from propolis.image.spool import STANDARD_INPUT
from propolis.image.trust.files import read_policy
from propolis.image.trust.identity import Match
from propolis.image.trust.policy import MAX_POLICY, Requirement, parse_policy, scopes
from propolis.image.trust.signature import Signature, claim_of

_ACCEPT, _SIGNED = "insecureAcceptAnything", "sigstoreSigned"
_SHOWN = 3
"""Reasons in one message."""


@runtime_checkable
class SignatureSource(Protocol):
    """Where signatures of an image are."""

    def kept_signatures(self, digest: str) -> Sequence[Signature]:
        """Those that were fetched earlier."""

    def fetch_signatures(self, digest: str, *, bundles: bool) -> Sequence[Signature]:
        """Those that are there now; those in bundles only if asked for.

        Raises:
            AccessDenied, RegistryUnreachable, RegistryError: as their names say.
            ImageInvalid: what is there is broken.
        """


def check(file: Path, reference: Reference, found: Found, source: object) -> None:
    """See that the image `found`, which was asked for as `reference`, may be used.

    Raises:
        SignatureRejected: it may not; the message has the requirement that it does not meet, and why.
        InvalidArgument: the policy, or a key that it names, cannot be used.
        ImageError: its signatures cannot be had.
    """
    policy = parse_policy(read_policy(file, MAX_POLICY), file)
    checked = _Checked(found, source if isinstance(source, SignatureSource) else None)
    # what comes by standard input lies at no place
    place = None if reference.path == STANDARD_INPUT else reference.path
    names = scopes(reference.transport, found.name, place, reference.name)
    for requirement in policy.requirements(reference.transport, names):
        why = checked.why_not(requirement)
        if why:
            raise SignatureRejected(
                f"{reference} may not be used: {why} ({requirement.where} in {file})", hint=_hint(requirement, found)
            )


def _hint(requirement: Requirement, found: Found) -> str:
    if requirement.kind != _SIGNED or requirement.unsupported or found.name is None:
        return "use an image that the policy allows, or change the policy"
    keys = [str(key.path) for key in requirement.keys if key.path is not None]
    whose = f" by the key to {keys[0]}" if keys else ""
    return f"have {found.name.place}@{(*found.indexes, found.digest)[0]} signed{whose}, or change the policy"


class _Checked:
    """One image, and its signatures once they have been asked for."""

    def __init__(self, found: Found, source: SignatureSource | None) -> None:
        self._found, self._source = found, source
        self._digests = (found.digest, *found.indexes)

    def why_not(self, requirement: Requirement) -> str:
        """Why the image does not meet a requirement; empty if it does."""
        if requirement.kind == _ACCEPT:
            return ""
        if requirement.unsupported:
            return f"the policy asks for {requirement.unsupported}, which cannot be verified here"
        if requirement.kind != _SIGNED:
            return "the policy rejects it"
        if self._source is None:
            return "it has to be signed, but signatures are looked for only in registries"
        from propolis.image.trust.keys import load_key

        verifiers = [load_key(key) for key in requirement.keys]

        def accepted(signatures: Iterable[Signature], reasons: list[str]) -> bool:
            for signature in signatures:
                if any(verify(signature.signature, signature.signed) for verify in verifiers):
                    why = self._claims(signature, requirement)
                    if not why:
                        return True
                else:
                    why = "it was made by another key"
                reasons.append(why)
            return False

        bundles = requirement.identity.match is Match.DIGEST
        if accepted((item for digest in self._digests for item in self._source.kept_signatures(digest)), []):
            return ""
        reasons: list[str] = []
        for digest in self._digests:
            if accepted(self._source.fetch_signatures(digest, bundles=bundles), reasons):
                return ""
        if not reasons:
            return f"there is no signature of {' or '.join(map(short, self._digests))}"
        shown = "; ".join(dict.fromkeys(reasons[:_SHOWN]))
        return f"none of its signatures counts ({len(reasons)}: {shown})"

    def _claims(self, signature: Signature, requirement: Requirement) -> str:
        """Why a signature by the right key is not one of this image; empty if it is."""
        try:
            claim = claim_of(signature)
        except ValueError as error:
            return str(error)
        if not any(digest in self._digests for digest in claim.digests):
            return f"it is of another image, {', '.join(map(short, claim.digests[:_SHOWN]))}"
        if not requirement.identity.accepts(claim.reference, self._found.name):
            return f"it is of {claim.reference[:200]!r}, not of {requirement.identity.wants(self._found.name)}"
        return ""
