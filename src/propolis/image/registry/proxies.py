"""Which proxy leads to an address: what the environment says, and the system's settings where it says nothing.

Knows nothing of HTTP. NO_PROXY is read as Go's programs do, which users of docker and podman know: `*`, names (with all
below them; with a leading dot only those), addresses, ranges like 10.0.0.0/8; with a port only for that one.
"""

import ipaddress
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote, urlsplit

from propolis.errors import InvalidArgument
from propolis.image.registry.address import Address, is_loopback

_SCHEMES = ("http", "https", "all")
_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_MAX_EXCEPTIONS = 1000
_HAS_SETTINGS = sys.platform in ("win32", "darwin")


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where a proxy is, and who we are to it."""

    scheme: str
    """`http`, `https`, `socks5`, or `socks5h` where it also looks names up."""
    host: str
    port: int
    login: tuple[str, str] | None = field(repr=False)
    """Name and password."""

    @property
    def url(self) -> str:
        """Without the login."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class Proxies:
    """What was set when it was made."""

    def __init__(self, by_scheme: dict[str, Proxy], exceptions: Sequence[str], *, by_system: bool = False) -> None:
        """`exceptions` are as in NO_PROXY; `by_system`: its settings have a say, too."""
        self._by_scheme = by_scheme
        self._exceptions = exceptions
        self._by_system = by_system

    @classmethod
    def of_environment(cls) -> Self:
        """Read the environment; on Windows and macOS the system's settings, where it names no proxy.

        Raises:
            InvalidArgument: one of them cannot be used; what it says is not shown.
        """
        is_set = any(name.lower().endswith("_proxy") for name in os.environ)
        if not is_set and not _HAS_SETTINGS:
            return cls({}, ())
        from urllib.request import getproxies  # which hardly any pull needs

        found = getproxies()
        exceptions = found.get("no", "").replace(",", " ").split()[:_MAX_EXCEPTIONS]
        by_scheme = {name: _read(name, found[name]) for name in _SCHEMES if found.get(name)}
        return cls(by_scheme, exceptions, by_system=not is_set)

    def way_to(self, address: Address) -> Proxy | None:
        """The proxy to ask; None: straight. May ask the system, and that the network."""
        found = self._by_scheme.get(address.scheme) or self._by_scheme.get("all")
        if found is None or is_loopback(address.host) or any(_fits(text, address) for text in self._exceptions):
            return None
        if self._by_system:
            from urllib.request import proxy_bypass

            return None if proxy_bypass(address.host) else found
        return found


def _read(name: str, text: str) -> Proxy:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        if parts.scheme not in _PORTS or not parts.hostname or parts.port == 0:
            raise ValueError
        port = _PORTS[parts.scheme] if parts.port is None else parts.port
        login = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
        return Proxy(parts.scheme, parts.hostname, port, login)
    except ValueError:
        raise InvalidArgument(
            f"{name.upper()}_PROXY names a proxy that cannot be used",
            hint="it is like http://proxy.example.org:3128 or socks5h://HOST:PORT",
        ) from None


def _fits(text: str, address: Address) -> bool:
    """Whether an entry of NO_PROXY speaks of an address; one that makes no sense speaks of none."""
    if text == "*":
        return True
    host, port = _split(text.lower())
    if port and port != str(address.port):
        return False
    try:
        network = ipaddress.ip_network(host, strict=False)
    except ValueError:
        name = host.removeprefix("*")
        bare = address.host.removesuffix(".")
        return bool(name.strip(".")) and (bare == name or bare.endswith("." + name.removeprefix(".")))
    try:
        return ipaddress.ip_address(address.host) in network
    except ValueError:
        return False


def _split(text: str) -> tuple[str, str]:
    """Host and port of `HOST`, `HOST:PORT`, `[ADDRESS]:PORT`, or an address with colons of its own."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(":")
    host, colon, port = text.partition(":")
    return (host, port) if colon and ":" not in port else (text, "")
