"""What a signature may call the image that it is of: `signedIdentity` of containers-policy.json(5).

Pure. One kind is ours: `matchDigest` asks for no name, for signatures that have none.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from propolis.errors import InvalidArgument
from propolis.image.registry.name import ImageName, parse_name
from propolis.image.trust.strict import check_keys, mapping, text


class Match(StrEnum):
    """How names are compared."""

    EXACT = "matchExact"
    REPO_DIGEST_OR_EXACT = "matchRepoDigestOrExact"
    REPOSITORY = "matchRepository"
    EXACT_REFERENCE = "exactReference"
    EXACT_REPOSITORY = "exactRepository"
    REMAP = "remapIdentity"
    DIGEST = "matchDigest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One `signedIdentity`."""

    match: Match = Match.REPO_DIGEST_OR_EXACT
    reference: str = ""
    """Of exactReference and exactRepository."""
    prefix: str = ""
    signed_prefix: str = ""

    def accepts(self, signed: str, wanted: ImageName | None) -> bool:
        """Whether a signature that says `signed` (empty: nothing) may be one of the image asked for as `wanted`."""
        if self.match is Match.DIGEST:
            return True
        name = named(signed)
        if name is None:
            return False
        match self.match:
            case Match.EXACT_REFERENCE:
                return _is_exact(name) and name == named(self.reference)
            case Match.EXACT_REPOSITORY:
                return name.place == self.reference_place
            case _ if wanted is None:
                return False
            case Match.REPOSITORY:
                return name.place == wanted.place
            case Match.EXACT:
                return _is_exact(name) and name == wanted
            case Match.REMAP:
                return _repo_digest_or_exact(name, self._remapped(wanted))
            case _:
                return _repo_digest_or_exact(name, wanted)

    @property
    def reference_place(self) -> str:
        """The repository that exactRepository names."""
        found = named(self.reference)
        return "" if found is None else found.place

    def wants(self, wanted: ImageName | None) -> str:
        """What it asks for, for messages."""
        match self.match:
            case Match.EXACT_REFERENCE | Match.EXACT_REPOSITORY:
                return self.reference
            case Match.DIGEST:
                return "any name"
            case _ if wanted is None:
                return "a name, which an image that is in no registry has not"
            case Match.REPOSITORY:
                return wanted.place
            case Match.REMAP:
                wanted = self._remapped(wanted)
        return f"a tag of {wanted.place}" if wanted.digest and self.match is not Match.EXACT else str(wanted)

    def _remapped(self, wanted: ImageName) -> ImageName:
        if wanted.place != self.prefix and not wanted.place.startswith(f"{self.prefix}/"):
            return wanted
        domain, _, repository = (self.signed_prefix + wanted.place[len(self.prefix) :]).partition("/")
        return replace(wanted, domain=domain, repository=repository)


def named(reference: str) -> ImageName | None:
    """A docker reference in full, without a tag if it has none; None where it is no reference."""
    try:
        return parse_name(reference, default_tag="")
    except InvalidArgument:
        return None


def parse_identity(value: Any, where: str) -> Identity:
    """Read one; ValueError says what is wrong with it."""
    found = mapping(value, where)
    kind = text(found.get("type"), f"{where}.type")
    if kind not in list(Match):
        raise ValueError(f"{where}.type is {kind[:80]!r}, which is not known")
    match Match(kind):
        case Match.EXACT_REFERENCE as match:
            reference = _reference(found, "dockerReference", where)
            if not _is_exact(named(reference)):
                raise ValueError(f"{where}.dockerReference has neither a tag nor a digest")
            return Identity(match=match, reference=reference)
        case Match.EXACT_REPOSITORY as match:
            reference = _reference(found, "dockerRepository", where)
            if _is_exact(named(reference)):
                raise ValueError(f"{where}.dockerRepository has a tag or a digest")
            return Identity(match=match, reference=reference)
        case Match.REMAP as match:
            check_keys(found, where, ("type", "prefix", "signedPrefix"))
            prefix, signed = (_prefix(found[key], f"{where}.{key}") for key in ("prefix", "signedPrefix"))
            return Identity(match=match, prefix=prefix, signed_prefix=signed)
        case match:
            check_keys(found, where, ("type",))
            return Identity(match=match)


def _reference(found: dict[str, Any], key: str, where: str) -> str:
    check_keys(found, where, ("type", key))
    reference = text(found[key], f"{where}.{key}")
    if named(reference) is None:
        raise ValueError(f"{where}.{key} is {reference[:120]!r}, which is no docker reference")
    return reference


def _prefix(value: Any, where: str) -> str:
    """A host, a namespace or a repository, in full."""
    prefix = text(value, where)
    name = named(prefix if "/" in prefix else f"{prefix}/x")
    if name is None or _is_exact(name) or name.place not in (prefix, f"{prefix}/x"):
        raise ValueError(f"{where} is {prefix[:120]!r}, which is no host, namespace or repository in full")
    return prefix


def _is_exact(name: ImageName | None) -> bool:
    return name is not None and bool(name.tag or name.digest)


def _repo_digest_or_exact(signed: ImageName, wanted: ImageName) -> bool:
    """Who asks by digest has said which image it is; the tag it was signed with need not be known."""
    return _is_exact(signed) and (signed.place == wanted.place if wanted.digest else signed == wanted)
