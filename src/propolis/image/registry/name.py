"""The names of images in registries: `[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]`.

Pure. Follows the grammar of the distribution project's reference package and, for names without a host, what docker and
containerd make of them: `busybox` is `docker.io/library/busybox:latest`.
"""

import re
from dataclasses import dataclass, replace

from propolis.errors import InvalidArgument
from propolis.image.digest import is_digest

DEFAULT_DOMAIN = "docker.io"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_DEFAULT_TAG = "latest"
_MAX_REPOSITORY = 255
_MAX_DOMAIN = 255
_MAX_PORT = 65535

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])"
_DOMAIN = re.compile(rf"{_HOST}(?::(?P<port>[0-9]+))?")
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageName:
    """One name in full: a registry's domain, a repository in it, a tag or a digest or both."""

    domain: str
    """Host and, where given, port."""
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def place(self) -> str:
        """Domain and repository: what configuration goes by."""
        return f"{self.domain}/{self.repository}"

    @property
    def target(self) -> str:
        """What the registry is asked for: the digest, or else the tag."""
        return self.digest or self.tag

    @property
    def as_kept(self) -> "ImageName":
        """The name under which a host remembers it: what a tag means does not matter beside a digest."""
        return replace(self, tag="") if self.digest else self

    @property
    def familiar(self) -> str:
        """As a user would write it: without what docker completes."""
        place = self.place.removeprefix(f"{DEFAULT_DOMAIN}/")
        return place.removeprefix(_OFFICIAL) if place.count("/") == 1 and place != self.place else place

    def __str__(self) -> str:
        """In full, as `parse_name` takes it."""
        return self.place + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse_name(text: str, *, default_tag: str = _DEFAULT_TAG) -> ImageName:
    """Read a name; what is missing is completed as docker does.

    Raises:
        InvalidArgument: it breaks the grammar; the message says where.
    """
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise _fault(text, f"{digest[:80]!r} is no digest", "a digest is sha256: and 64 lower-case hex digits")
    domain, rest = _split_domain(rest)
    repository, colon, tag = rest.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise _fault(text, f"{tag[:80]!r} is no tag", "a tag has letters, digits, _ . - and at most 128 characters")
    if _IDENTIFIER.fullmatch(repository) and not is_qualified(text):
        raise _fault(text, "64 hex digits are an identifier", "write NAME@sha256:... to name an image by its digest")
    if domain == DEFAULT_DOMAIN and "/" not in repository:
        repository = _OFFICIAL + repository
    _check_domain(domain, text)
    if repository != repository.lower():
        raise _fault(text, "a repository is in lower case", f"try {text.lower()[:200]}")
    if not _REPOSITORY.fullmatch(repository):
        raise _fault(text, f"{repository[:80]!r} is no repository", "as in docker.io/library/busybox:1.36")
    if len(repository) > _MAX_REPOSITORY:
        raise _fault(text, f"a repository has at most {_MAX_REPOSITORY} characters", "")
    name = ImageName(domain=domain, repository=repository, tag=tag, digest=digest)
    return name if tag or digest else replace(name, tag=default_tag)


def is_qualified(text: str) -> bool:
    """Whether a name says which registry is meant: by a first part with a dot, colon or capital, or `localhost`."""
    first, slash, _ = text.partition("@")[0].partition("/")
    return bool(slash) and (bool(set(".:") & set(first)) or first == "localhost" or first != first.lower())


def host_of(domain: str) -> str:
    """The domain without its port; an IPv6 address without its brackets."""
    if domain.startswith("["):
        return domain[1:].partition("]")[0]
    return domain.partition(":")[0]


def _split_domain(text: str) -> tuple[str, str]:
    if not is_qualified(text):
        return DEFAULT_DOMAIN, text
    domain, _, rest = text.partition("/")
    return (DEFAULT_DOMAIN if domain == _LEGACY_DOMAIN else domain), rest


def _check_domain(domain: str, text: str) -> None:
    found = _DOMAIN.fullmatch(domain)
    if text.startswith(("http://", "https://")):
        raise _fault(text, f"{domain} begins a web address", f"leave out {domain}//")
    if found is None or len(domain) > _MAX_DOMAIN:
        raise _fault(text, f"{domain[:80]!r} is no host", "as in example.org:5000/name or [::1]:5000/name")
    if found["port"] and not 0 < int(found["port"][:6]) <= _MAX_PORT:
        raise _fault(text, f"{found['port'][:20]} is no port", f"a port is from 1 to {_MAX_PORT}")


def _fault(text: str, what: str, hint: str) -> InvalidArgument:
    return InvalidArgument(f"{text[:200]!r} is not the name of an image: {what}", hint=hint)
