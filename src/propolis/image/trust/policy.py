"""A policy: which requirements an image from a place has to meet. The grammar of containers-policy.json(5).

Pure; key files are named, not read. What is known of the grammar but not supported becomes a requirement that nothing
meets; what is not known makes the whole file an error.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from propolis.errors import InvalidArgument
from propolis.image.registry.name import ImageName
from propolis.image.trust.identity import Identity, parse_identity
from propolis.image.trust.strict import check_keys, items, load, mapping, text

MAX_POLICY = 1 << 20
_MOST_REQUIREMENTS = 64
_MOST_KEYS = 64
_DOCKER = "docker"
_SIGNED_BY = "signedBy"
_KEYS = ("keyPath", "keyPaths", "keyData", "keyDatas")
_REKOR = ("rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas")
_UNSUPPORTED = {"fulcio": "certificates of Fulcio", "pki": "certificates", **dict.fromkeys(_REKOR, "Rekor's log")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One public key: a file, or what would be in it."""

    path: Path | None = None
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What an image has to meet."""

    where: str
    """Its place in the policy, for messages."""
    kind: str
    keys: tuple[Key, ...] = ()
    """Any of them will do."""
    identity: Identity = field(default_factory=Identity)
    unsupported: str = ""
    """What of it cannot be verified; such a requirement is never met."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy file."""

    default: tuple[Requirement, ...]
    transports: Mapping[str, Mapping[str, tuple[Requirement, ...]]]

    def requirements(self, transport: str, scopes: Sequence[str]) -> tuple[Requirement, ...]:
        """Those of the most specific of `scopes` that has any, of the transport, or the default ones."""
        known = self.transports.get(transport, {})
        found = (known[scope] for scope in (*scopes, "") if scope in known)
        return next(found, self.default)


def parse_policy(data: bytes, file: Path) -> Policy:
    """Read a policy file's content.

    Raises:
        InvalidArgument: it breaks the grammar; the message says where.
    """
    try:
        if len(data) > MAX_POLICY:
            raise ValueError(f"it is larger than {MAX_POLICY >> 20} MiB")
        return _policy(load(data, "it"), file.parent)
    except ValueError as error:
        raise InvalidArgument(
            f"the signature policy {file} cannot be used: {error}", hint="see containers-policy.json(5)"
        ) from None


def _policy(document: dict[str, Any], directory: Path) -> Policy:
    check_keys(document, "it", ("default",), ("transports",))
    transports: dict[str, dict[str, tuple[Requirement, ...]]] = {}
    for transport, listed in mapping(document.get("transports", {}), "transports").items():
        transports[transport] = {}
        for scope, value in mapping(listed, f"transports.{transport}").items():
            where = f"transports.{transport}.{scope}"
            _check_scope(transport, scope, where)
            transports[transport][scope] = _requirements(value, where, directory)
    return Policy(default=_requirements(document["default"], "default", directory), transports=transports)


def _requirements(value: Any, where: str, directory: Path) -> tuple[Requirement, ...]:
    return tuple(
        _requirement(item, f"{where}[{number}]", directory)
        for number, item in enumerate(items(value, where, _MOST_REQUIREMENTS))
    )


def _requirement(value: Any, where: str, directory: Path) -> Requirement:
    found = mapping(value, where)
    kind = text(found.get("type"), f"{where}.type")
    match kind:
        case "insecureAcceptAnything" | "reject":
            check_keys(found, where, ("type",))
            return Requirement(where=where, kind=kind)
        case "sigstoreSigned":
            check_keys(found, where, ("type",), (*_KEYS, *_UNSUPPORTED, "signedIdentity"))
            missing = next((what for key, what in _UNSUPPORTED.items() if key in found), "")
            keys = () if missing and not any(key in found for key in _KEYS) else _keys(found, where, directory)
            identity = parse_identity(
                found.get("signedIdentity", {"type": Identity().match}), f"{where}.signedIdentity"
            )
            return Requirement(where=where, kind=kind, keys=keys, identity=identity, unsupported=missing)
        case "signedBy":
            check_keys(found, where, ("type", "keyType"), ("keyPath", "keyPaths", "keyData", "signedIdentity"))
            return Requirement(where=where, kind=kind, unsupported="signatures of GPG")
        case "signedBaseLayer":
            check_keys(found, where, ("type", "baseLayerIdentity"))
            return Requirement(where=where, kind=kind, unsupported="signatures of base layers")
    raise ValueError(f"{where}.type is {kind[:80]!r}, which is not known")


def _keys(found: dict[str, Any], where: str, directory: Path) -> tuple[Key, ...]:
    given = [key for key in _KEYS if key in found]
    if len(given) != 1:
        raise ValueError(f"{where} has to have one of {', '.join(_KEYS)}")
    (name,) = given
    several = items(found[name], f"{where}.{name}", _MOST_KEYS) if name.endswith("s") else [found[name]]
    values = [text(value, f"{where}.{name}") for value in several]
    if name.startswith("keyPath"):
        return tuple(Key(path=directory / value) for value in values)
    try:
        return tuple(Key(data=base64.b64decode(value, validate=True)) for value in values)
    except binascii.Error:
        raise ValueError(f"{where}.{name} is not base64") from None


def _check_scope(transport: str, scope: str, where: str) -> None:
    """What could never match is a mistake."""
    if transport == _DOCKER or not scope:
        wildcard = scope.removeprefix("*.")
        if "*" in wildcard or (scope.startswith("*.") and "/" in wildcard):
            raise ValueError(f"{where}: a wildcard stands for the first parts of a host, as *.example.com")
    elif scope == "/" or (scope.startswith("/") and str(PurePosixPath(scope)) != scope):
        raise ValueError(f"{where} is no path as it is compared: absolute, without links, and not / alone")


def scopes(transport: str, name: ImageName | None, path: Path | None, inside: str) -> tuple[str, ...]:
    """What may name an image in a policy, most specific first: by `name`, or `inside` a `path` of this host."""
    if name is not None and transport == _DOCKER:
        return (*_of_name(name), *_of_host(name.domain))
    if path is None:
        return _of_name(name) if name is not None else ()
    place = path.resolve()
    whole = [f"{place}:{inside}"] if inside else []
    return (*whole, str(place), *(str(parent) for parent in place.parents[:-1]))


def _of_name(name: ImageName) -> tuple[str, ...]:
    parts = name.place.split("/")
    exact = [f"{name.place}@{name.digest}"] if name.digest else []
    tagged = [f"{name.place}:{name.tag}"] if name.tag else []
    return (*exact, *tagged, *("/".join(parts[:count]) for count in range(len(parts), 0, -1)))


def _of_host(domain: str) -> tuple[str, ...]:
    labels = domain.partition(":")[0].split(".")
    return tuple(f"*.{'.'.join(labels[start:])}" for start in range(1, len(labels)))
