"""What a user writes to name an image: a place on this host and what is inside it, or the name of one in a registry.

Pure: whether a bare path exists is asked of the caller's `probe`. Transports are spelled as in
containers-transports(5): `oci:PATH[:NAME]`, `oci-archive:PATH[:NAME]`, `docker-archive:PATH[:NAME:TAG]`, where the path
ends at the first colon and `-` is standard input; `dir:PATH`; in place of a name, or after it, `@sha256:...` picks by
digest; `docker-daemon:NAME[:TAG]` and `docker-daemon:sha256:...`; `docker://NAME`. What is written without a transport
is a path if something lies there, and else the name of an image in a registry.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from propolis.errors import ImageNotFound, InvalidArgument
from propolis.image.digest import is_digest
from propolis.image.registry.name import is_qualified, parse_name


class Transport(StrEnum):
    """How the bytes of an image lie on the host."""

    OCI = "oci"
    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"
    DIRECTORY = "dir"
    DOCKER_DAEMON = "docker-daemon"
    """In the store of a container engine that this host can reach."""
    DOCKER = "docker"
    """Not on the host: in a registry."""


Probe = Callable[[Path], Transport | None]
"""Tells how an image lies at an existing path; None where there is nothing. Raises for what cannot be an image."""

_MAX_TEXT = 8192
_REGISTRY = "docker://"
_DAEMON = f"{Transport.DOCKER_DAEMON}:"
_PLACES = (Transport.OCI, Transport.OCI_ARCHIVE, Transport.DOCKER_ARCHIVE, Transport.DIRECTORY)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]*")
_STORAGE = "containers-storage:"
_FOREIGN = (_STORAGE, "ostree:", "sif:", "tarball:")
_DIGEST_HINT = "a digest is @sha256: and 64 lower-case hex digits"
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One image at one place. With neither `name` nor `digest`: the only image there."""

    transport: Transport
    path: Path | None
    """None for what is in a registry or with a daemon; `-` for standard input."""
    name: str = ""
    """A tag, or a full name with its tag; where there is no path as it was written, so that short names can be told."""
    digest: str = ""

    def __str__(self) -> str:
        """As `parse` takes it."""
        digest = f"@{self.digest}" if self.digest else ""
        if self.transport is Transport.DOCKER_DAEMON:
            return f"{_DAEMON}{self.name}{digest if self.name else self.digest}"
        if self.path is None:
            return f"{_REGISTRY if is_qualified(self.name) else ''}{self.name}{digest}"
        name = f":{self.name}" if self.name else ""
        return f"{self.transport}:{self.path}{name}{digest}"


def parse(text: str, probe: Probe) -> Reference:
    """Read `text`; a bare path is the longest part before a colon, an @ or the end at which `probe` finds something.

    Raises:
        InvalidArgument: the text cannot be a reference.
        ImageNotFound: a bare path or name at which nothing lies on this host.
    """
    if not text or "\0" in text or len(text) > _MAX_TEXT:
        raise InvalidArgument(f"{text[:80]!r} is not an image reference", hint="as in busybox:1.36 or oci:DIR:TAG")
    if text.startswith(_FOREIGN):
        raise InvalidArgument(
            f"images cannot be read from {text.partition(':')[0]}:, as in {text[:200]!r}", hint=_foreign_hint(text)
        )
    if text.startswith(_REGISTRY):
        return _in_registry(str(parse_name(text.removeprefix(_REGISTRY))))
    if text.startswith(_DAEMON):
        return _in_daemon(text.removeprefix(_DAEMON))
    for transport in _PLACES:
        if text.startswith(f"{transport}:"):
            return _explicit(transport, text)
    for path, rest in _splits(text):
        found = probe(Path(path))
        if found is not None:
            name, digest = _selector(rest, text)
            return Reference(transport=found, path=Path(path), name=name, digest=digest)
    if text.startswith((".", "/", "~")) or "\\" in text or _DRIVE.match(text):
        raise ImageNotFound(
            f"there is no image at {text[:200]}", hint="check the path; an image is an OCI layout or a tar"
        )
    try:
        parsed = parse_name(text)
    except InvalidArgument as error:
        error.hint = "; ".join(
            part for part in (error.hint, "there is no file or directory of that name either") if part
        )
        raise
    return _in_registry(str(parsed) if is_qualified(text) else text)


def has_transport(text: str) -> bool:
    """Whether `text` says where the image is, so that it is no path, whatever lies there."""
    return text.startswith((_REGISTRY, _DAEMON, *_FOREIGN, *(f"{transport}:" for transport in _PLACES)))


def reads_standard_input(text: str) -> bool:
    """Whether the image comes through standard input: `-`, or that for a path."""
    for transport in (Transport.OCI_ARCHIVE, Transport.DOCKER_ARCHIVE):
        text = text.removeprefix(f"{transport}:")
    return text == "-" or text.startswith(("-:", "-@"))


def _in_daemon(text: str) -> Reference:
    if is_digest(text):
        return Reference(transport=Transport.DOCKER_DAEMON, path=None, digest=text)
    parse_name(text)
    name, _, digest = text.partition("@")
    return Reference(transport=Transport.DOCKER_DAEMON, path=None, name=name, digest=digest)


def _in_registry(text: str) -> Reference:
    name, _, digest = text.partition("@")
    return Reference(transport=Transport.DOCKER, path=None, name=name, digest=digest)


def _explicit(transport: Transport, text: str) -> Reference:
    rest = text.removeprefix(f"{transport}:")
    rest, digest = _cut_digest(rest)
    start = 2 if _DRIVE.match(rest) else 0
    colon = -1 if transport is Transport.DIRECTORY else rest.find(":", start)
    path, name = (rest, "") if colon < 0 else (rest[:colon], rest[colon + 1 :])
    if path.endswith(("@sha256", "@sha512")):
        raise InvalidArgument(f"{text[:200]!r} ends in a malformed digest", hint=_DIGEST_HINT)
    if not path:
        raise InvalidArgument(f"{text[:200]!r} names no path", hint=f"write {transport}:PATH or {transport}:PATH:TAG")
    return Reference(transport=transport, path=Path(path), name=_checked_name(name, text), digest=digest)


def _splits(text: str) -> Iterator[tuple[str, str]]:
    """Every way to cut `text` into a path and a selector, longest path first."""
    yield text, ""
    for position in range(len(text) - 1, 0, -1):
        if text[position] in ":@":
            yield text[:position], text[position:]


def _selector(rest: str, text: str) -> tuple[str, str]:
    """Read what follows a path: nothing, `:NAME`, `@DIGEST` or `:NAME@DIGEST`."""
    rest, digest = _cut_digest(rest)
    if rest and not rest.startswith(":"):
        raise InvalidArgument(
            f"{rest[:80]!r} in {text[:200]!r} is neither :TAG nor @sha256:...", hint="check the digest"
        )
    return _checked_name(rest.removeprefix(":"), text), digest


def _cut_digest(text: str) -> tuple[str, str]:
    before, at, digest = text.rpartition("@")
    return (before.removesuffix(":"), digest) if at and is_digest(digest) else (text, "")


def _checked_name(name: str, text: str) -> str:
    if name and ("@" in name or not _NAME.fullmatch(name)):
        raise InvalidArgument(
            f"{name[:80]!r} in {text[:200]!r} is not a tag or image name",
            hint=f"a tag follows the path after one colon; {_DIGEST_HINT}",
        )
    return name


def _foreign_hint(text: str) -> str:
    hint = f"make a local copy: skopeo copy {text[:200]} oci:DIR:TAG; then use oci:DIR:TAG"
    if text.startswith(_STORAGE):
        hint += "; or have podman serve it (podman system service) and use docker-daemon:NAME"
    return hint
