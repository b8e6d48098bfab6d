"""One HTTP exchange: a request, its redirects, an answer that is read within bounds.

The only module that knows the HTTP library; its faults become ours here. Credentials never follow a redirect to another
host, and nothing that shows an address shows what may be secret in it.
"""

import contextlib
import ipaddress
import re
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from queue import Empty, SimpleQueue
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies

import httpx

from propolis.errors import InvalidArgument, RegistryError, RegistryUnreachable
from propolis.image.registry import tls
from propolis.image.registry.name import host_of
from propolis.image.registry.retry import Patience, Transient

_MAX_REDIRECTS = 6
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_CONNECTIONS = 16
_QUICK_ATTEMPTS = 2
"""Where nothing answers at all, there is little hope."""
_AGENT = "propolis"
_LOCATION = "propolis.location"
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PROXIES = ("http", "https", "all")
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")


@dataclass(slots=True)
class Answer:
    """What came back; `pieces` and `body` read it, once."""

    status: int
    headers: httpx.Headers
    url: httpx.URL
    _response: httpx.Response = field(repr=False)
    _patience: Patience = field(repr=False)

    def pieces(self) -> Iterator[bytes]:
        """The bytes as they come.

        Raises:
            Transient: the connection broke, or nothing came for `Patience.read` seconds.
        """
        with _faults(self.url):
            yield from self._response.iter_raw()

    def body(self, limit: int) -> bytes:
        """All of it.

        Raises:
            Transient: the connection broke or was too slow.
            RegistryError: it is longer than `limit` bytes.
        """
        until = time.monotonic() + self._patience.document
        found = bytearray()
        for piece in self.pieces():
            found += piece
            if len(found) > limit:
                raise RegistryError(
                    f"{host_shown(self.url)} answers with more than the {limit >> 10} KiB that are accepted",
                    hint="this is no registry, or it is broken",
                )
            if time.monotonic() > until:
                raise Transient(
                    RegistryUnreachable(
                        f"{host_shown(self.url)} did not end its answer within {self._patience.document:g} s",
                        hint="try again later",
                    )
                )
        return bytes(found)


class Exchange:
    """HTTP to one registry, and to where it sends us. For any number of threads."""

    def __init__(self, domain: str, *, insecure: bool, patience: Patience) -> None:
        """Nothing is connected yet.

        Raises:
            InvalidArgument: a proxy in the environment, or a certificate on this host, cannot be used.
        """
        host = host_of(domain)
        self.patience = patience
        self.is_loopback = is_loopback(host)
        self._allows_plain = insecure or self.is_loopback
        direct = ["localhost", "127.0.0.1", "[::1]"]
        if self.is_loopback:
            direct.append(f"[{host}]" if ":" in host else host)
        _check_proxies()
        self._client = httpx.Client(
            verify=tls.context(domain, insecure=insecure),
            timeout=httpx.Timeout(patience.read, connect=patience.connect, pool=None),
            limits=httpx.Limits(max_connections=_MAX_CONNECTIONS),
            headers={"User-Agent": _AGENT, "Accept-Encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            event_hooks={"response": [_take_location]},
            mounts={f"all://{name}": None for name in direct},
        )
        weakref.finalize(self, self._client.close)  # sources have no end of their own

    @contextlib.contextmanager
    def send(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], form: Mapping[str, str] | None = None
    ) -> Iterator[Answer]:
        """Ask, and follow redirects (of what is no form).

        Raises:
            Transient: no connection, or it broke.
            RegistryError: a redirect to where none may lead, or too many; not a server of HTTP.
        """
        headers = dict(headers)
        for _ in range(_MAX_REDIRECTS):
            with self._answered(method, url, headers, form) as response:
                location = response.extensions.get(_LOCATION)
                if form is not None or response.status_code not in _REDIRECTS or not location:
                    yield Answer(response.status_code, response.headers, response.url, response, self.patience)
                    return
            target = self.target(url, location)
            if _origin(target) != _origin(url):
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            url = target
        raise RegistryError(f"{host_shown(url)} redirects more than {_MAX_REDIRECTS} times", hint="it is broken")

    @contextlib.contextmanager
    def _answered(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> Iterator[httpx.Response]:
        with _faults(url):
            request = self._client.build_request(method, url, headers=dict(headers), data=form)
            response = self._begun(request)
        try:
            yield response
        finally:
            response.close()

    def _begun(self, request: httpx.Request) -> httpx.Response:
        """The answer as far as its headers; neither names that nobody resolves nor trickling headers take for ever.

        The library bounds each wait, not their sum; so it waits in a thread, which is left to itself if need be.
        """
        lock, found, is_late = threading.Lock(), SimpleQueue[httpx.Response | BaseException](), threading.Event()

        def send() -> None:
            try:
                answer: httpx.Response | BaseException = self._client.send(request, stream=True, auth=None)
            except BaseException as error:  # noqa: BLE001 - it belongs to who waits
                answer = error
            with lock:
                if is_late.is_set() and isinstance(answer, httpx.Response):
                    answer.close()
                found.put(answer)

        threading.Thread(target=send, name="propolis-request", daemon=True).start()
        with contextlib.suppress(Empty):
            return _response(found.get(timeout=self.patience.document))
        with lock:
            is_late.set()
            if not found.empty():
                return _response(found.get())
        raise httpx.ReadTimeout("", request=request)

    def answers(self, url: httpx.URL) -> bool:
        """Whether something speaks HTTP at `url`: with TLS or without, as its scheme says."""
        try:
            with self._answered("GET", url, {}, None) as response:
                # what servers of TLS answer to who speaks without
                return bool(response.status_code != httpx.codes.BAD_REQUEST)
        except (Transient, RegistryError):
            return False

    def target(self, base: httpx.URL, text: str) -> httpx.URL:
        """Where a server sends us: another place over http(s), and neither down from TLS nor into this host.

        Raises:
            RegistryError: it may not lead there.
        """
        try:
            # what has a scheme or a host of its own is not completed: joining is generous with broken ones
            absolute = text if _ABSOLUTE.match(text) else urljoin(str(base), text)
            absolute = f"{base.scheme}:{text}" if text.startswith("//") else absolute
            parts = urlsplit(absolute)
            if parts.scheme not in ("http", "https"):
                raise _misled(base, f"an address of the scheme {parts.scheme[:20]!r}")
            if not parts.hostname or parts.port == 0:
                raise ValueError
            target = httpx.URL(absolute).copy_with(username=None, password=None, fragment=None)
        except (httpx.InvalidURL, ValueError, TypeError):
            raise _misled(base, "what is no address") from None
        if target.scheme == "http" and (base.scheme == "https" or not self._allows_plain):
            raise _misled(base, "plain http")
        if is_internal(target.host) and not self.is_loopback:
            raise _misled(base, f"{target.host}, which is this host's own")
        return target

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


def _response(found: httpx.Response | BaseException) -> httpx.Response:
    if isinstance(found, BaseException):
        raise found
    return found


def _take_location(response: httpx.Response) -> None:
    """Put aside where a redirect leads: the library would look at it, followed or not, and fail at broken ones."""
    location = response.headers.pop("location", None)
    if location is not None:
        response.extensions[_LOCATION] = location


def _check_proxies() -> None:
    """See that the proxies of the environment are addresses, before the library meets them; never show them."""
    for name, text in getproxies().items():
        if name not in _PROXIES or not text:
            continue
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            is_fine = parts.scheme in _PROXY_SCHEMES and bool(parts.hostname) and parts.port != 0
            httpx.URL(text)
        except (ValueError, httpx.InvalidURL):
            is_fine = False
        if not is_fine:
            raise InvalidArgument(
                f"{name.upper()}_PROXY names a proxy that cannot be used",
                hint="it is like http://proxy.example.org:3128 or socks5h://HOST:PORT",
            )


def is_loopback(host: str) -> bool:
    """Whether a host is this one; names other than localhost are not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_internal(host: str) -> bool:
    """Whether a host is this one, or is only to be reached from it, as the metadata services of clouds are."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        try:  # numbers in the ways that only resolvers still take: 127.1, 0x7f000001
            address = ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return is_loopback(host)
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_link_local or mapped.is_unspecified)


def host_shown(url: httpx.URL) -> str:
    """How messages name a server: neither user, nor path, nor query."""
    return f"{url.host}:{url.port}" if url.port else url.host


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _misled(url: httpx.URL, whither: str) -> RegistryError:
    return RegistryError(
        f"{host_shown(url)} sends us to {whither}, which is refused", hint="this registry cannot be used"
    )


@contextlib.contextmanager
def _faults(url: httpx.URL) -> Iterator[None]:
    """The HTTP library's faults as ours."""
    where = host_shown(url)
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise _no_connection(where, error) from error
    except httpx.ProxyError as error:
        raise RegistryUnreachable(
            f"the proxy on the way to {where} refuses: {_reason(error)}", hint="check HTTPS_PROXY and NO_PROXY"
        ) from error
    except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL, httpx.DecodingError) as error:
        raise RegistryError(f"{where} cannot be asked: {_reason(error)}") from error
    except httpx.TimeoutException as error:
        raise Transient(
            RegistryUnreachable(f"{where} went silent", hint="check the network, or try again later")
        ) from error
    except httpx.TransportError as error:
        raise Transient(
            RegistryUnreachable(f"the connection to {where} broke: {_reason(error)}", hint="try again later")
        ) from error
    except ssl.SSLError as error:
        raise Transient(RegistryUnreachable(f"the connection to {where} broke: {_reason(error)}")) from error


def _no_connection(where: str, error: Exception) -> Exception:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return RegistryUnreachable(
                f"{where} cannot be trusted: {cause.verify_message or _reason(error)}",
                hint="add its CA to the system's store or to certs.d, or name it in SSL_CERT_FILE",
            )
        cause = cause.__cause__ or cause.__context__
    what = "no answer in time" if isinstance(error, httpx.ConnectTimeout) else _reason(error)
    return Transient(
        RegistryUnreachable(f"no connection to {where}: {what}", hint="check the name, the network and HTTPS_PROXY"),
        attempts=_QUICK_ATTEMPTS,
    )


def _reason(error: Exception) -> str:
    text = _ERRNO.sub("", " ".join(str(error).split()))
    return text[:200] or type(error).__name__
