"""Real registries and proxies for tests: Debian's docker-registry on loopback, with TLS and logins if need be."""

import base64
import contextlib
import http.server
import json
import select
import socket
import socketserver
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import trustme

PROGRAM = "docker-registry"
_PATIENCE = 30.0


@contextlib.contextmanager
def docker_registry(
    directory: Path, *, ca: trustme.CA | None = None, user: str = "", password: str = ""
) -> Iterator[str]:
    """Run one with its files in `directory`, with TLS if there is a CA; gives its HOST:PORT."""
    address = f"127.0.0.1:{free_port()}"
    http_part: dict[str, object] = {"addr": address}
    if ca is not None:
        issued = ca.issue_cert("127.0.0.1", "localhost")
        issued.private_key_pem.write_to_path(directory / "key.pem")
        for blob in issued.cert_chain_pems:
            blob.write_to_path(directory / "cert.pem", append=True)
        http_part["tls"] = {"certificate": str(directory / "cert.pem"), "key": str(directory / "key.pem")}
    document: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": http_part,
    }
    if user:
        (directory / "htpasswd").write_text(f"{user}:{bcrypt(password)}\n")
        document["auth"] = {"htpasswd": {"realm": "tests", "path": str(directory / "htpasswd")}}
    (directory / "config.yml").write_text(json.dumps(document))  # which is YAML, too
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, "serve", str(directory / "config.yml")], stdout=log, stderr=log)
    try:
        _wait_for(address, process, directory / "log")
        yield address
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of loopback that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    host, _, port = address.partition(":")
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{PROGRAM} does not listen: {log.read_text()[-2000:]}")


class Proxy:
    """An HTTP proxy (CONNECT and plain) or a SOCKS 5 proxy. To it, every name is loopback; `asked` is what it heard."""

    def __init__(self, *, socks: bool = False, login: str = "") -> None:
        self.asked: list[str] = []
        self.login = login
        handler = _Socks if socks else _Http
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.proxy = self  # type: ignore[attr-defined]
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Http(http.server.BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_CONNECT(self) -> None:
        if self._is_refused():
            return
        self.server.proxy.asked.append(f"CONNECT {self.path}")  # type: ignore[attr-defined]
        with socket.create_connection(("127.0.0.1", int(self.path.rpartition(":")[2]))) as other:
            self.send_response(200)
            self.end_headers()
            relay(self.connection, other)
        self.close_connection = True

    def do_GET(self) -> None:
        if self._is_refused():
            return
        self.server.proxy.asked.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        scheme, _, rest = self.path.partition("://")
        place, _, path = rest.partition("/")
        assert scheme == "http"
        with socket.create_connection(("127.0.0.1", int(place.rpartition(":")[2]))) as other:
            headers = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items() if name != "Connection")
            other.sendall(f"{self.command} /{path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n".encode())
            while piece := other.recv(65536):
                self.wfile.write(piece)
        self.close_connection = True

    do_HEAD = do_GET  # noqa: N815 - the base class' names

    def _is_refused(self) -> bool:
        login = self.server.proxy.login  # type: ignore[attr-defined]
        given = self.headers.get("Proxy-Authorization", "")
        if not login or given == "Basic " + base64.b64encode(login.encode()).decode():
            return False
        self.send_error(407)
        return True


class _Socks(socketserver.BaseRequestHandler):
    """SOCKS 5 (RFC 1928) without authentication: CONNECT to a name or an address."""

    def handle(self) -> None:
        client = self.request
        _, count = struct.unpack("BB", client.recv(2))
        client.recv(count)
        client.sendall(b"\5\0")
        _, _, _, kind = client.recv(4)
        length = {1: 4, 4: 16}.get(kind) or client.recv(1)[0]
        name = client.recv(length)
        (port,) = struct.unpack(">H", client.recv(2))
        shown = name.decode() if kind == 3 else socket.inet_ntop(socket.AF_INET, name)
        self.server.proxy.asked.append(f"{shown}:{port}")  # type: ignore[attr-defined]
        with socket.create_connection(("127.0.0.1", port)) as other:
            client.sendall(b"\5\0\0\1\x7f\0\0\1" + struct.pack(">H", port))
            relay(client, other)


def relay(one: socket.socket, other: socket.socket) -> None:
    """Pass bytes on in both directions until one side ends."""
    sides = {one: other, other: one}
    while True:
        for side in select.select(list(sides), [], [])[0]:
            try:
                data = side.recv(65536)
                if not data:
                    return
                sides[side].sendall(data)
            except OSError:
                return


def bcrypt(password: str) -> str:
    """A bcrypt hash, which is all that docker-registry takes; by the C library, through the perl of every Debian."""
    program = "print crypt($ARGV[0], $ARGV[1])"
    command = ["perl", "-e", program, password, "$2b$04$abcdefabcdefabcdefabce"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
