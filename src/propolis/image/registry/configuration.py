"""Where a name is really fetched from: mirrors, blocked and insecure registries, short names.

Pure; `files` reads. Follows containers-registries.conf(5), version 2 of the format, so that the files of podman and
skopeo apply as they are. Rules of later documents replace those of earlier ones with the same prefix.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from propolis.errors import AccessDenied, InvalidArgument
from propolis.image.registry.name import DEFAULT_DOMAIN, ImageName, is_qualified, parse_name

MAX_DOCUMENT = 1 << 20
"""Bytes."""
_MAX_RULES = 10_000
_PULLS = ("all", "digest-only", "tag-only")
_MODES = ("disabled", "permissive", "enforcing")
_VERSION_1 = "registries"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """One place that an image may be fetched from."""

    domain: str
    repository: str
    insecure: bool = False
    """TLS without proof of identity, or no TLS at all, is accepted."""

    def __str__(self) -> str:
        return f"{self.domain}/{self.repository}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """A place that is asked before the one that a rule is about."""

    location: str
    insecure: bool = False
    pull: str = "all"
    """`all`, `digest-only` or `tag-only`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What applies to all names that begin with `prefix`."""

    prefix: str
    location: str = ""
    """Takes the prefix's place; empty where nothing is rewritten."""
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()

    def match(self, place: str) -> int:
        """How many characters of `place` the prefix stands for; 0 where it does not apply."""
        if self.prefix.startswith("*."):
            domain = place.partition("/")[0]
            return len(domain) if domain.endswith(self.prefix[1:]) and len(domain) >= len(self.prefix) else 0
        return len(self.prefix) if place == self.prefix or place.startswith(f"{self.prefix}/") else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All documents as one."""

    search: tuple[str, ...] = ()
    """Domains that a name without one is looked for at, in order."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names in full by short ones."""
    mode: str = "permissive"
    """What to do about a short name that several registries may have."""
    rules: tuple[Rule, ...] = ()

    def merged(self, later: "Configuration", given: Iterable[str]) -> "Configuration":
        """This, overridden by a later document that has the keys `given`."""
        keys = set(given)
        replaced = {rule.prefix for rule in later.rules}
        return Configuration(
            search=later.search if "unqualified-search-registries" in keys else self.search,
            aliases={**self.aliases, **later.aliases},
            mode=later.mode if "short-name-mode" in keys else self.mode,
            rules=tuple(rule for rule in self.rules if rule.prefix not in replaced) + later.rules,
        )

    def candidates(self, text: str) -> tuple[ImageName, ...]:
        """What a name may mean, in the order to try: one, unless it is short and several registries are searched.

        Raises:
            InvalidArgument: it is no name, or short where configuration wants it in full.
        """
        written = parse_name(text)
        if is_qualified(text):
            return (written,)
        short, rest = _short(text)
        alias = self.aliases.get(short)
        if alias:
            return (parse_name(alias + rest),)
        domains = self.search or (DEFAULT_DOMAIN,)
        if len(domains) > 1 and self.mode == "enforcing":
            listed = ", ".join(f"{domain}/{short}" for domain in domains[:4])
            raise InvalidArgument(f"{text[:200]!r} may be in any of several registries", hint=f"name one: {listed}")
        return tuple(parse_name(f"{domain}/{short}{rest}") for domain in domains)

    def origins(self, name: ImageName) -> tuple[Origin, ...]:
        """Where to fetch `name` from, in the order to try.

        Raises:
            AccessDenied: configuration blocks it.
            InvalidArgument: what configuration makes of it is no name.
        """
        matching = [(rule.match(name.place), rule) for rule in self.rules]
        length, rule = max(matching, key=lambda item: item[0], default=(0, Rule(prefix="")))
        if not length:
            return (Origin(domain=name.domain, repository=name.repository),)
        if rule.blocked:
            raise AccessDenied(
                f"{name.place} is blocked by this host's registries.conf, in its rule for {rule.prefix}",
                hint="use another registry, or change that file",
            )
        rest = name.place[length:]
        found = [
            _origin(mirror.location + rest, mirror.insecure)
            for mirror in rule.mirrors
            if mirror.pull == "all" or (mirror.pull == "digest-only") == bool(name.digest)
        ]
        return (*found, _origin(rule.location + rest if rule.location else name.place, rule.insecure))


def parse_configuration(data: bytes, where: str) -> tuple[Configuration, tuple[str, ...]]:
    """One document, and the keys it has; `where` names it in messages.

    Raises:
        InvalidArgument: it is no such document; the message names the key.
    """
    if len(data) > MAX_DOCUMENT:
        raise InvalidArgument(f"{where} is larger than {MAX_DOCUMENT >> 20} MiB")
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{where} is not TOML: {str(error)[:200]}", hint="correct or remove it") from None
    if _VERSION_1 in document:
        raise InvalidArgument(
            f"{where} is in version 1 of its format, which is obsolete", hint="see containers-registries.conf(5)"
        )
    reader = _Reader(document, where)
    search = tuple(_domain(text, where) for text in reader.texts("unqualified-search-registries"))
    mode = reader.text("short-name-mode", "permissive")
    if mode not in _MODES:
        raise reader.fault("short-name-mode", f"is none of {', '.join(_MODES)}")
    aliases = reader.table("aliases")
    parsed = Configuration(
        search=search,
        aliases={short: aliases.text(short) for short in aliases.keys if aliases.text(short)},
        mode=mode,
        rules=tuple(_rule(item) for item in reader.tables("registry")),
    )
    for full in parsed.aliases.values():
        parse_name(full)
    return parsed, tuple(document)


class _Reader:
    """One table of the document."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = values
        self._where = where

    @property
    def keys(self) -> Iterable[str]:
        return self._values.keys()

    def fault(self, key: str, what: str) -> InvalidArgument:
        return InvalidArgument(f"{self._where}: {key[:80]} {what}", hint="see containers-registries.conf(5)")

    def text(self, key: str, default: str = "") -> str:
        value = self._values.get(key, default)
        if not isinstance(value, str) or not value.isprintable():
            raise self.fault(key, "is not a line of text")
        return value

    def flag(self, key: str) -> bool:
        value = self._values.get(key, False)
        if not isinstance(value, bool):
            raise self.fault(key, "is neither true nor false")
        return value

    def texts(self, key: str) -> list[str]:
        value = self._values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value) or len(value) > _MAX_RULES:
            raise self.fault(key, "is not a list of texts")
        return value

    def table(self, key: str) -> "_Reader":
        value = self._values.get(key, {})
        if not isinstance(value, dict):
            raise self.fault(key, "is not a table")
        return _Reader(value, f"{self._where}: {key}")

    def tables(self, key: str) -> list["_Reader"]:
        value = self._values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value) or len(value) > _MAX_RULES:
            raise self.fault(key, "is not a list of tables")
        return [_Reader(item, f"{self._where}: {key}") for item in value]


def _rule(reader: _Reader) -> Rule:
    location = reader.text("location")
    prefix = reader.text("prefix") or location
    if not prefix:
        raise reader.fault("prefix", "and location are missing")
    by_digest = "digest-only" if reader.flag("mirror-by-digest-only") else "all"
    return Rule(
        prefix=prefix,
        location="" if location == prefix else location,
        insecure=reader.flag("insecure"),
        blocked=reader.flag("blocked"),
        mirrors=tuple(_mirror(item, by_digest) for item in reader.tables("mirror")),
    )


def _mirror(reader: _Reader, default: str) -> Mirror:
    location = reader.text("location")
    pull = reader.text("pull-from-mirror", default)
    if not location:
        raise reader.fault("location", "of a mirror is missing")
    if pull not in _PULLS:
        raise reader.fault("pull-from-mirror", f"is none of {', '.join(_PULLS)}")
    return Mirror(location=location, insecure=reader.flag("insecure"), pull=pull)


def _origin(place: str, insecure: bool) -> Origin:
    domain, _, repository = place.partition("/")
    qualified = _qualified(domain)
    parsed = parse_name(f"{qualified}/{repository}")
    return Origin(
        domain=parsed.domain if qualified == domain else domain, repository=parsed.repository, insecure=insecure
    )


def _qualified(domain: str) -> str:
    """A domain in a form in which a name takes it for one: a host of a single part needs its port."""
    return domain if is_qualified(f"{domain}/x") else f"{domain}:443"


def _domain(text: str, where: str) -> str:
    try:
        parse_name(f"{_qualified(text)}/x")
    except InvalidArgument:
        raise InvalidArgument(
            f"{where}: {text[:80]!r} is no registry", hint="as in registry.example.org:5000"
        ) from None
    return text


def _short(text: str) -> tuple[str, str]:
    """A short name without its tag and digest, and those."""
    end = min(position for position in (text.find(":"), text.find("@"), len(text)) if position >= 0)
    return text[:end], text[end:]
