"""A registry in this process, for tests of whatever pulls images; it serves what `testing.images` makes.

Offers only what the OCI distribution specification calls "Pull", with basic or token authentication, TLS, ranges, and
with faults given as data. It listens on loopback and forgets everything when it is closed.
"""

import base64
import json
import re
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from propolis.image import digest as digests
from propolis.image.manifest import INDEX_TYPES, MANIFEST_TYPES

_PIECE = 64 << 10
_PATIENCE = 30.0
"""Seconds that the server waits for a client, and a stalled answer for its end."""
_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<target>[^/]+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class FaultKind(StrEnum):
    """What goes wrong with an answer."""

    CUT = "cut"
    """The connection ends after `after` bytes of the body."""
    STALL = "stall"
    """Nothing more comes after `after` bytes."""
    DRIP = "drip"
    """After `after` bytes it goes on with a byte each tenth of a second."""
    CHUNK = "chunk"
    """In chunks: after `after` bytes the next one's size begins, and goes on with a digit each tenth of a second."""
    HEADERS = "headers"
    """A header begins, and goes on with a byte each tenth of a second."""
    WRONG = "wrong"
    """The byte at `after` is another one."""
    ENDLESS = "endless"
    """The body, and then more and more of it."""
    LENGTH = "length"
    """Content-Length tells `after` bytes more than there are."""
    STATUS = "status"
    """`status` instead, with `headers` and `body`."""
    NO_RANGES = "no ranges"
    """All of it, whatever part was asked for."""
    DROP = "drop"
    """The connection ends without an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Goes wrong with answers to requests of which `METHOD PATH` matches `request`, once they are authorized."""

    kind: FaultKind
    request: str = ""
    """A regular expression, searched for."""
    times: int = 1
    """How often; 0: always."""
    after: int = 0
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked for."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""


@dataclass(slots=True)
class _Armed:
    fault: Fault
    left: int


class Registry:
    """A registry on loopback, as a context manager. `address` is HOST:PORT, for references."""

    def __init__(
        self,
        *,
        users: Mapping[str, str] | None = None,
        authentication: Literal["none", "basic", "token"] = "none",
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        """Listen at once; answer from when the context is entered.

        Args:
            users: passwords by name. With `token` and no users, everybody gets a token.
            authentication: what it wants.
            tls: speak TLS with this context of a server.
            host: a loopback address.
        """
        self.users = dict(users or {})
        self.authentication = authentication
        self.token_lifetime = 300
        """Seconds."""
        self.realm = ""
        """Where tokens are to be had; empty: here."""
        self.requests: list[Request] = []
        """All that were made, in order."""
        self.faults: list[_Armed] = []
        self.manifests: dict[tuple[str, str], tuple[bytes, str]] = {}
        """Bytes and media type by name and tag or digest."""
        self.blobs: dict[str, bytes] = {}
        self.tokens: dict[str, float] = {}
        """When each expires, by monotonic time."""
        self.refresh_tokens: set[str] = set()
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self._server = _Server((host, 0), self, tls)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.scheme = "http" if tls is None else "https"
        self.address = f"{host}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def push(self, layout: Path, name: str, tag: str = "latest", *, source: str = "latest") -> str:
        """Serve the image tagged `source` of an OCI layout as `name:tag`; returns its digest."""
        for path in (layout / "blobs").glob("*/*"):
            self.blobs[f"{path.parent.name}:{path.name}"] = path.read_bytes()
        listed = json.loads((layout / "index.json").read_bytes())["manifests"]
        for item in listed:
            if item.get("annotations", {}).get("org.opencontainers.image.ref.name") == source:
                self._serve(name, item)
                self.manifests[name, tag] = self.manifests[name, item["digest"]]
                return str(item["digest"])
        raise KeyError(source)

    def put(self, name: str, target: str, document: Mapping[str, Any] | bytes, media_type: str) -> str:
        """Serve any document as a manifest or index, by `target` and by its digest, which is returned."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        digest = digests.of(data)
        for key in (target, digest):
            self.manifests[name, key] = (data, media_type)
        return digest

    def put_blob(self, data: bytes) -> str:
        """Serve any blob; returns its digest."""
        digest = digests.of(data)
        self.blobs[digest] = data
        return digest

    def arm(self, *faults: Fault) -> None:
        """From now on these go wrong; of several that fit a request, the first does."""
        self.faults += [_Armed(fault, fault.times or 1 << 62) for fault in faults]

    def count(self, pattern: str) -> int:
        """How many requests of which `METHOD PATH` matches were made."""
        return sum(re.search(pattern, f"{made.method} {made.path}") is not None for made in self.requests)

    def _serve(self, name: str, descriptor: Mapping[str, Any]) -> None:
        data = self.blobs[descriptor["digest"]]
        self.manifests[name, descriptor["digest"]] = (data, descriptor["mediaType"])
        if descriptor["mediaType"] in INDEX_TYPES:
            for item in json.loads(data)["manifests"]:
                if item["mediaType"] in (*INDEX_TYPES, *MANIFEST_TYPES):
                    self._serve(name, item)

    def take_fault(self, request: str) -> Fault | None:
        """The fault that is due for a request."""
        with self.lock:
            for armed in self.faults:
                if armed.left and re.search(armed.fault.request, request):
                    armed.left -= 1
                    return armed.fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], registry: Registry, tls: ssl.SSLContext | None) -> None:
        self.registry = registry
        self._tls = tls
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # without the look-up of the host's name
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "registry", self.server_address[1]

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        if self._tls is None:
            return connection, address
        # the handshake is the handler's, in its thread
        return self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    @property
    def _registry(self) -> Registry:
        return self.server.registry

    def do_GET(self) -> None:
        self._note()
        for_token = urlsplit(self.path).path == "/token"
        if not for_token and not self._is_allowed():
            self._refuse()
            return
        fault = self._registry.take_fault(f"{self.command} {self.path}")
        if fault is not None and fault.kind is FaultKind.STATUS:
            self._send(fault.status, fault.body, "application/json", fault.headers)
        elif fault is not None and fault.kind in (FaultKind.DROP, FaultKind.HEADERS):
            self.close_connection = True
            if fault.kind is FaultKind.HEADERS:
                self._trickle(b"HTTP/1.1 200 OK\r\nX: ", b"x")
        elif for_token:
            self._token(self._user(), fault)
        elif self.path == "/v2/":
            self._send(200, b"{}", "application/json", {}, fault)
        else:
            self._content(fault)

    do_HEAD = do_GET  # noqa: N815 - the base class' names

    def do_POST(self) -> None:
        self._note()
        length = min(int(self.headers.get("Content-Length", "0")), 1 << 16)
        form = parse_qs(self.rfile.read(length).decode())
        given = form.get("refresh_token", [""])[0]
        fault = self._registry.take_fault(f"{self.command} {self.path}")
        self._token("refreshed" if given in self._registry.refresh_tokens else None, fault)

    def _note(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._registry.requests.append(Request(self.command, self.path, headers))

    def _content(self, fault: Fault | None) -> None:
        found = _PATH.fullmatch(urlsplit(self.path).path)
        if found is None:
            self._fail(404, "NAME_UNKNOWN", "repository name not known to registry")
        elif found["kind"] == "manifests":
            known = self._registry.manifests.get((found["name"], found["target"]))
            if known is None:
                self._fail(404, "MANIFEST_UNKNOWN", "manifest unknown")
            else:
                self._send(200, known[0], known[1], {"Docker-Content-Digest": digests.of(known[0])}, fault)
        else:
            blob = self._registry.blobs.get(found["target"])
            if blob is None:
                self._fail(404, "BLOB_UNKNOWN", "blob unknown to registry")
            else:
                self._blob(blob, found["target"], fault)

    def _blob(self, blob: bytes, digest: str, fault: Fault | None) -> None:
        headers = {"Docker-Content-Digest": digest, "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        if asked is None or (fault is not None and fault.kind is FaultKind.NO_RANGES):
            self._send(200, blob, "application/octet-stream", headers, fault)
            return
        start, end = int(asked[1]), min(int(asked[2] or len(blob)), len(blob) - 1)
        if start > end:
            self._fail(416, "SIZE_INVALID", "range not satisfiable")
            return
        headers["Content-Range"] = f"bytes {start}-{end}/{len(blob)}"
        self._send(206, blob[start : end + 1], "application/octet-stream", headers, fault)

    def _is_allowed(self) -> bool:
        given = self.headers.get("Authorization", "")
        match self._registry.authentication:
            case "none":
                return True
            case "basic":
                return self._user() is not None
            case _:
                token = given.removeprefix("Bearer ")
                return given.startswith("Bearer ") and self._registry.tokens.get(token, 0) > time.monotonic()

    def _user(self) -> str | None:
        """Who the client has proved to be."""
        given = self.headers.get("Authorization", "")
        try:
            user, _, password = base64.b64decode(given.removeprefix("Basic ")).decode().partition(":")
        except ValueError:
            return None
        return user if given and self._registry.users.get(user) == password else None

    def _refuse(self) -> None:
        registry = self._registry
        if registry.authentication == "basic":
            challenge = 'Basic realm="a registry for tests"'
        else:
            found = _PATH.fullmatch(self.path)
            realm = registry.realm or f"{registry.scheme}://{registry.address}/token"
            challenge = f'Bearer realm="{realm}",service="tests"'
            challenge += f',scope="repository:{found["name"]}:pull"' if found else ""
        self._fail(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": challenge})

    def _token(self, user: str | None, fault: Fault | None) -> None:
        if user is None and (self._registry.users or self.command == "POST"):
            self._fail(401, "UNAUTHORIZED", "incorrect username or password")
            return
        token = secrets.token_urlsafe(24)
        self._registry.tokens[token] = time.monotonic() + self._registry.token_lifetime
        document = {"token": token, "expires_in": self._registry.token_lifetime}
        self._send(200, json.dumps(document).encode(), "application/json", {}, fault)

    def _fail(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self._send(status, body, "application/json", headers or {})

    def _send(
        self, status: int, body: bytes, kind: str, headers: Mapping[str, str], fault: Fault | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **headers}.items():
            self.send_header(name, value)
        in_chunks = fault is not None and fault.kind is FaultKind.CHUNK
        if fault is not None and fault.kind is FaultKind.ENDLESS:
            self.send_header("Connection", "close")
            self.close_connection = True
        elif in_chunks:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            extra = fault.after if fault is not None and fault.kind is FaultKind.LENGTH else 0
            self.send_header("Content-Length", str(len(body) + extra))
        self.end_headers()
        if self.command != "HEAD":
            for piece in self._faulty(body, fault):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if in_chunks else piece)
            if in_chunks:
                self._trickle(b"1", b"1")

    def _trickle(self, begin: bytes, more: bytes) -> None:
        self.close_connection = True
        self.wfile.write(begin)
        while not self._registry.closing.wait(0.1):
            self.wfile.write(more)

    def _faulty(self, body: bytes, fault: Fault | None) -> Iterator[bytes]:
        """The body in pieces, as the fault has it."""
        kind = None if fault is None else fault.kind
        after = 0 if fault is None else fault.after
        if kind is FaultKind.WRONG:
            body = body[:after] + bytes(value ^ 1 for value in body[after : after + 1]) + body[after + 1 :]
        cuts = (FaultKind.CUT, FaultKind.STALL, FaultKind.DRIP, FaultKind.CHUNK)
        end = after if kind in cuts else len(body)
        for start in range(0, end, _PIECE):
            yield body[start : min(start + _PIECE, end)]
        if kind is FaultKind.STALL:
            self._registry.closing.wait(_PATIENCE)
        if kind is FaultKind.DRIP:
            for value in body[end:]:
                if self._registry.closing.wait(0.1):
                    break
                yield bytes((value,))
        while kind is FaultKind.ENDLESS and not self._registry.closing.is_set():
            yield bytes(_PIECE)
        if kind in (FaultKind.CUT, FaultKind.STALL, FaultKind.DRIP, FaultKind.LENGTH):
            self.close_connection = True
