"""Where to ask: an absolute address over http or https, and what can be told of its host without asking anybody.

Pure. What is read here is written anew for the HTTP library, so that both mean the same host by it.
"""

import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode, urlsplit

_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_MAX_NAME = 253
_METADATA = frozenset(
    map(ipaddress.ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"))
)
"""Where clouds (of Amazon, Google, Alibaba, Microsoft, Oracle) have theirs, if not at a link-local address."""


@dataclass(frozen=True, slots=True)
class Address:
    """A scheme, a host and what to ask it for; neither user nor fragment."""

    scheme: str
    """`http` or `https`."""
    host: str
    """A name in lower case, as DNS has it, or an IP address; without brackets."""
    port: int
    path: str
    """With the query, from the slash on."""

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host, port: to whom secrets belong."""
        return self.scheme, self.host, self.port

    @property
    def shown(self) -> str:
        """How messages name the server: neither path nor query; the port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        """As a URL."""
        return f"{self.scheme}://{self.shown}{self.path}"

    def with_query(self, parameters: Mapping[str, str]) -> "Address":
        """The same with these parameters added."""
        path, _, query = self.path.partition("?")
        return replace(self, path=f"{path}?{'&'.join(part for part in (query, urlencode(parameters)) if part)}")


def parse_address(text: str) -> Address:
    """Read a URL.

    Raises:
        ValueError: it has another scheme, no host, or one that cannot be.
    """
    parts = urlsplit(text)
    host = parts.hostname or ""
    is_bracketed = "[" in parts.netloc.rpartition("@")[2]
    if parts.scheme not in _PORTS or not host or parts.port == 0 or is_bracketed != (":" in host):
        raise ValueError(f"{text[:80]!r} is no address of HTTP")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    return Address(parts.scheme, _host(host), port, path if path.startswith("/") else f"/{path}")


def is_loopback(host: str) -> bool:
    """Whether a host is this one; names other than localhost are not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_internal(host: str) -> bool:
    """Whether a host is this one, or is only to be reached from it, as the metadata services of clouds are."""
    host = host.removesuffix(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:  # numbers in the ways that only resolvers still take: 127.1, 0x7f000001
            address = ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return is_loopback(host)
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_link_local or mapped.is_unspecified or mapped in _METADATA)


def _host(text: str) -> str:
    if ":" in text:
        if "%" in text:  # a zone: only link-local addresses have one
            raise ValueError(f"{text[:80]!r} is no host")
        return str(ipaddress.IPv6Address(text))
    name = text if text.isascii() else text.encode("idna").decode()
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise ValueError(f"{text[:80]!r} is no host")
    return name
