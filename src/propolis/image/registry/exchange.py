"""One HTTP exchange: a request, its redirects, an answer that is read within bounds.

With `connections` and `faults`, all that knows the HTTP library. Credentials never follow a redirect to another host,
and nothing that shows an address shows what may be secret in it.
"""

import contextlib
import re
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from queue import Empty, SimpleQueue
from urllib.parse import urljoin

from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

from propolis.errors import RegistryError, RegistryUnreachable
from propolis.image.registry import tls
from propolis.image.registry.address import Address, is_internal, is_loopback, parse_address
from propolis.image.registry.connections import MAX_CONNECTIONS, Connections, UnderWay
from propolis.image.registry.faults import faults
from propolis.image.registry.name import host_of
from propolis.image.registry.retry import Patience, Transient
from propolis.image.watchdog import Watchdog

_MAX_REDIRECTS = 6
_REDIRECTS = (301, 302, 303, 307, 308)
_PIECE = 256 << 10
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(slots=True)
class Answer:
    """What came back; `pieces` and `body` read it, once."""

    status: int
    address: Address
    headers: Mapping[str, str]
    """By name in any case; fields that came more than once are joined by commas."""
    _response: HTTPResponse = field(repr=False)
    _under_way: UnderWay = field(repr=False)
    _patience: Patience = field(repr=False)

    def fields(self, name: str) -> Sequence[str]:
        """All header fields of that name, each by itself."""
        return self._response.headers.getlist(name)

    def pieces(self) -> Iterator[bytes]:
        """The bytes as they come: what is there, but at most 256 KiB.

        Raises:
            Transient: the connection broke, or nothing came for `Patience.read` seconds.
        """
        with faults(self.address, is_answered=True), contextlib.ExitStack() as clean_up:
            # reads the socket once, however little comes; those that fill a buffer would hide how slow it is
            read = partial(self._response.read1, _PIECE, decode_content=False)
            if self._response.chunked:
                watchdog = clean_up.enter_context(Watchdog(self._patience.read, self._under_way.give_up))
                read = partial(watchdog.wait, read)
            while piece := read():
                yield piece

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
                    f"{self.address.shown} answers with more than the {limit >> 10} KiB that are accepted",
                    hint="this is no registry, or it is broken",
                )
            if time.monotonic() > until:
                raise Transient(
                    RegistryUnreachable(
                        f"{self.address.shown} did not end its answer within {self._patience.document:g} s",
                        hint="try again later",
                    )
                )
        return bytes(found)


class Exchange:
    """HTTP to one registry, and to where it sends us. For any number of threads."""

    def __init__(self, domain: str, *, insecure: bool, patience: Patience, server: str = "") -> None:
        """Nothing is connected yet; `server` is where the registry of that domain is, if elsewhere.

        Raises:
            InvalidArgument: a proxy in the environment, or a certificate on this host, cannot be used.
        """
        host = host_of(server or domain).lower()
        self.patience = patience
        self.is_loopback = is_loopback(host)
        self._allows_plain = insecure or self.is_loopback
        context = tls.context(domain, insecure=insecure)
        self._connections = Connections(host, context, patience, is_loopback=self.is_loopback)
        self._turns = threading.BoundedSemaphore(MAX_CONNECTIONS)
        weakref.finalize(self, self._connections.close)  # sources have no end of their own

    @contextlib.contextmanager
    def send(
        self, method: str, address: Address, headers: Mapping[str, str], form: Mapping[str, str] | None = None
    ) -> Iterator[Answer]:
        """Ask, and follow redirects (of what is no form).

        Raises:
            Transient: no connection, or it broke.
            RegistryError: a redirect to where none may lead, or too many; not a server of HTTP.
        """
        headers = dict(headers)
        for _ in range(_MAX_REDIRECTS):
            with self._answered(method, address, headers, form) as answer:
                location = answer.headers.get("location")
                if form is not None or answer.status not in _REDIRECTS or not location:
                    yield answer
                    return
            target = self.target(address, location)
            if target.origin != address.origin:
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            address = target
        raise RegistryError(f"{address.shown} redirects more than {_MAX_REDIRECTS} times", hint="it is broken")

    @contextlib.contextmanager
    def _answered(
        self, method: str, address: Address, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> Iterator[Answer]:
        if not self._turns.acquire(timeout=self.patience.turn):
            raise Transient(
                RegistryUnreachable(f"all {MAX_CONNECTIONS} connections to {address.shown} are in use for long")
            )
        under_way = UnderWay()
        try:
            with faults(address):
                response = self._begun(method, address, headers, form, under_way)
            try:
                yield Answer(response.status, address, response.headers, response, under_way, self.patience)
            finally:
                _leave(response)
        finally:
            self._turns.release()

    def _begun(
        self,
        method: str,
        address: Address,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None,
        under_way: UnderWay,
    ) -> HTTPResponse:
        """The answer as far as its headers; neither names that nobody resolves nor trickling headers take for ever.

        The library bounds each wait, not their sum; so it waits in a thread. What connects may be left to itself for a
        while; what waits for headers is broken off.
        """
        lock, found, is_late = threading.Lock(), SimpleQueue[HTTPResponse | BaseException](), threading.Event()

        def send() -> None:
            try:
                answer: HTTPResponse | BaseException = self._connections.ask(method, address, headers, form, under_way)
            except BaseException as error:  # noqa: BLE001 - it belongs to who waits
                answer = error
            with lock:
                if is_late.is_set() and isinstance(answer, HTTPResponse):
                    _leave(answer)
                found.put(answer)

        threading.Thread(target=send, name="propolis-request", daemon=True).start()
        with contextlib.suppress(Empty):
            return _response(found.get(timeout=self.patience.document))
        with lock:
            is_late.set()
            if not found.empty():
                return _response(found.get())
            under_way.give_up()
        raise TimeoutError

    def answers(self, address: Address) -> bool:
        """Whether something speaks HTTP at `address`: with TLS or without, as its scheme says."""
        try:
            with self._answered("GET", address, {}, None) as answer:
                # what servers of TLS answer to who speaks without
                return answer.status != HTTPStatus.BAD_REQUEST
        except (Transient, RegistryError):
            return False

    def target(self, base: Address, text: str) -> Address:
        """Where a server sends us: another place over http(s), and neither down from TLS nor into this host.

        Names are looked up only when they are connected with, and are refused then, if they lead into this host.

        Raises:
            RegistryError: it may not lead there.
        """
        with contextlib.suppress(UnicodeError):  # the library takes each byte for a character
            text = text.encode("latin-1").decode()
        try:
            # what has a scheme or a host of its own is not completed: joining is generous with broken ones
            absolute = text if _ABSOLUTE.match(text) else urljoin(str(base), text)
            absolute = f"{base.scheme}:{text}" if text.startswith("//") else absolute
            scheme = absolute.partition(":")[0].lower()
            if scheme not in ("http", "https"):
                raise _misled(base, f"an address of the scheme {scheme[:20]!r}")
            target = parse_address(absolute)
        except ValueError:
            raise _misled(base, "what is no address") from None
        if target.scheme == "http" and (base.scheme == "https" or not self._allows_plain):
            raise _misled(base, "plain http")
        if is_internal(target.host) and not self.is_loopback:
            raise _misled(base, f"{target.host}, which is this host's own")
        return target

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()


def _response(found: HTTPResponse | BaseException) -> HTTPResponse:
    if isinstance(found, BaseException):
        raise found
    return found


def _leave(response: HTTPResponse) -> None:
    """Keep the connection if all was read or there is nothing to read, else close it; give its place back."""
    if response.length_remaining == 0 and not response.chunked:
        with contextlib.suppress(HTTPError):
            response.read1(1, decode_content=False)  # which only takes note of the end
    if not response.closed:
        response.close()
    response.release_conn()


def _misled(address: Address, whither: str) -> RegistryError:
    return RegistryError(
        f"{address.shown} sends us to {whither}, which is refused", hint="this registry cannot be used"
    )
