"""The connections of one exchange, straight or by a proxy: how many, how long to wait, and with whom.

With `exchange` and `faults`, all that knows the HTTP library. A name that leads to this host, where a registry
elsewhere sends us to it, is found out here, when it has been looked up and before anything is asked.
"""

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import urlencode

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.response import HTTPResponse

from propolis.errors import RegistryError
from propolis.image.registry import tls
from propolis.image.registry.address import Address, is_internal
from propolis.image.registry.proxies import Proxies, Proxy
from propolis.image.registry.retry import Patience

MAX_CONNECTIONS = 16
_MAX_HOSTS = 16
_HEADERS = {"User-Agent": "propolis", "Accept": "*/*", "Accept-Encoding": "identity"}
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class UnderWay:
    """A request as another thread than its own sees it."""

    def __init__(self) -> None:
        self._connection: HTTPConnection | None = None
        self._sock: socket.socket | None = None

    def note(self, connection: HTTPConnection) -> None:
        """It goes over that; once it has been sent, over the same socket to the end."""
        self._connection, self._sock = connection, connection.sock

    def give_up(self) -> None:
        """Let nobody wait for its answer any more; whoever does finds the connection broken."""
        sock = self._sock or (None if self._connection is None else self._connection.sock)
        if sock is not None:
            with contextlib.suppress(OSError, AttributeError):  # closed meanwhile; TLS inside TLS has no such method
                sock.shutdown(socket.SHUT_RDWR)


class Connections:
    """Kept and used again as the library sees fit. For any number of threads."""

    def __init__(self, server: str, context: ssl.SSLContext, patience: Patience, *, is_loopback: bool) -> None:
        """Nothing is connected yet; `server` is the registry's host.

        Raises:
            InvalidArgument: a proxy in the environment cannot be used.
        """
        self._server = server
        self._context = context
        self._proves = context.verify_mode is not ssl.CERT_NONE
        self._patience = patience
        self._proxies = Proxies.of_environment()
        self._lock = threading.Lock()
        self._thread = threading.local()
        self._may_be_here = True if is_loopback else None
        """Whether what is connected with may be this host; None until the registry itself has been."""
        self._managers: dict[Proxy | None, urllib3.PoolManager] = {}

    def ask(
        self,
        method: str,
        address: Address,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None,
        under_way: UnderWay,
    ) -> HTTPResponse:
        """Send a request; returns the answer as far as its headers.

        Raises:
            RegistryError: the address leads to this host.
            InvalidArgument: a certificate on this host that a proxy needs cannot be read.
            What the library raises.
        """
        self._thread.under_way = under_way
        found = self._manager(self._proxies.way_to(address)).urlopen(
            method,
            str(address),
            redirect=False,
            headers=_HEADERS | (_FORM if form is not None else {}) | dict(headers),
            body=urlencode(form) if form is not None else None,
            retries=False,
            pool_timeout=self._patience.read,
            preload_content=False,
            decode_content=False,
        )
        return cast(HTTPResponse, found)

    def close(self) -> None:
        """Close those that nobody uses."""
        with self._lock:
            for manager in self._managers.values():
                manager.clear()

    def _manager(self, proxy: Proxy | None) -> urllib3.PoolManager:
        with self._lock:
            if proxy not in self._managers:
                self._managers[proxy] = self._made(proxy)
            return self._managers[proxy]

    def _made(self, proxy: Proxy | None) -> urllib3.PoolManager:
        options: dict[str, Any] = {
            "num_pools": _MAX_HOSTS,
            "maxsize": MAX_CONNECTIONS,
            "block": True,
            "timeout": urllib3.Timeout(connect=self._patience.connect, read=self._patience.read),
            "ssl_context": self._context,
        }
        name, password = proxy.login if proxy is not None and proxy.login is not None else (None, None)
        if proxy is None:
            made = urllib3.PoolManager(**options)
        elif proxy.scheme.startswith("socks"):
            from urllib3.contrib.socks import SOCKSProxyManager

            made = SOCKSProxyManager(proxy.url, name, password, **options)
        else:
            secret = base64.b64encode(f"{name}:{password}".encode()).decode()
            login = None if name is None else {"Proxy-Authorization": f"Basic {secret}"}
            context = tls.context_for_proxies() if proxy.scheme == "https" else None
            made = urllib3.ProxyManager(proxy.url, proxy_headers=login, proxy_ssl_context=context, **options)
        look = self._accept if proxy is not None else self._check
        made.pool_classes_by_scheme = {
            scheme: _watched(pool, look, self._note) for scheme, pool in made.pool_classes_by_scheme.items()
        }
        return made

    def _note(self, connection: HTTPConnection) -> None:
        self._thread.under_way.note(connection)

    def _accept(self, connection: HTTPConnection) -> None:
        if not self._proves:
            connection.is_verified = True  # as far as it was to be; else the library warns at each request

    def _check(self, connection: HTTPConnection) -> None:
        """See that a connection is not with this host, where only the registry's own name may have led to it."""
        peer = str(connection.sock.getpeername()[0])
        is_here = is_internal(peer)
        with self._lock:
            if self._may_be_here is None and connection.host == self._server:
                self._may_be_here = is_here
            is_fine = self._may_be_here or not is_here
        if not is_fine:
            raise RegistryError(
                f"{connection.host} is {peer}, an address of this host's own, where a registry may not send us",
                hint="this registry cannot be used",
            )
        self._accept(connection)


def _watched(
    pool: type[urllib3.HTTPConnectionPool],
    look: Callable[[HTTPConnection], None],
    note: Callable[[HTTPConnection], None],
) -> type[urllib3.HTTPConnectionPool]:
    """The same pool, but `look` sees each new connection before anything is asked on it, `note` each that is used."""

    class Connection(pool.ConnectionCls):  # type: ignore[name-defined, misc]
        def connect(self) -> None:
            super().connect()
            look(self)

        def request(self, *arguments: Any, **options: Any) -> None:
            note(self)
            super().request(*arguments, **options)
            note(self)  # a connection that is not kept gives its socket away to the answer

    class Pool(pool):  # type: ignore[valid-type, misc]
        ConnectionCls = Connection

    return Pool
