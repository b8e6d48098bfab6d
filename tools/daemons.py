"""Container engines for tests: podman's and docker's own services on sockets of their own, and one that misbehaves."""

import contextlib
import json
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

_PATIENCE = 60.0
COMMANDS: Mapping[str, Callable[[Path, Path], list[str]]] = {
    "podman": lambda directory, place: [
        *("podman", "--root", f"{directory}/root", "--runroot", f"{directory}/run", "--storage-driver", "vfs"),
        *("--events-backend", "none", "system", "service", "--time", "0", f"unix://{place}"),
    ],
    "dockerd": lambda directory, place: [
        *("dockerd", "--iptables=false", "--bridge=none", "--storage-driver=vfs", "--host", f"unix://{place}"),
        *("--data-root", f"{directory}/data", "--exec-root", f"{directory}/exec", "--pidfile", f"{directory}/pid"),
    ],
}
"""How each is started: with its files in the first directory, its socket at the second path."""


@contextlib.contextmanager
def engine(name: str, directory: Path) -> Iterator[Path]:
    """Run one of `COMMANDS`; gives the path of its socket, which must be short."""
    place = directory / "engine.sock"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(COMMANDS[name](directory, place), stdout=log, stderr=log)
    try:
        until = time.monotonic() + _PATIENCE
        while True:
            with contextlib.suppress(OSError):
                if asked(place, "GET", "/_ping") == b"OK":
                    break
            if time.monotonic() > until or process.poll() is not None:
                raise RuntimeError(f"{name} does not answer: {(directory / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        yield place
    finally:
        process.terminate()
        process.wait()
        # what it mounted in its own name space is gone with it; its storage is deeper than a temporary directory likes
        shutil.rmtree(directory, ignore_errors=True)


def asked(place: Path, method: str, path: str, body: bytes | None = None) -> bytes:
    """One request to an engine; its answer, whatever the status."""
    connection = HTTPConnection("localhost")
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as stream:
        stream.settimeout(_PATIENCE)
        stream.connect(str(place))
        connection.sock = stream
        headers = {"Content-Type": "application/x-tar"} if body is not None else {}
        connection.request(method, path, body, headers)
        return connection.getresponse().read()


@dataclass
class Held:
    """An image of a made-up engine."""

    identity: str
    archive: bytes
    platform: Mapping[str, str]


class FakeEngine:
    """An engine on a unix socket, with `images` by name. `fault` stands in for what it would do; `asked` is the paths.

    A fault takes the connection and whether the archive was asked for, and returns whether it has answered.
    """

    def __init__(self, place: Path, images: Mapping[str, Held]) -> None:
        self.place, self.images = place, images
        self.asked: list[str] = []
        self.fault: Callable[[socket.socket, bool], bool] = lambda _connection, _exports: False
        engine = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    engine._serve(self.request)

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        self._server = Server(str(place), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self, connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            piece = connection.recv(4096)
            if not piece:
                return
            request += piece
        path = request.split(b" ")[1].decode()
        self.asked.append(path)
        exports = path.endswith("/get")
        if self.fault(connection, exports):
            return
        name = path.removeprefix("/images/").removesuffix("/json").removesuffix("/get")
        held = next((held for known, held in self.images.items() if name in (known, held.identity)), None)
        if held is None:
            connection.sendall(answer(json.dumps({"message": f"No such image: {name}"}).encode(), 404))
        elif exports:
            connection.sendall(chunked(held.archive))
        else:
            told: dict[str, Any] = {"Id": held.identity, **held.platform}
            connection.sendall(answer(json.dumps(told).encode()))


def answer(body: bytes, status: int = 200) -> bytes:
    """An HTTP answer of known length."""
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(body: bytes, *, cut: int | None = None) -> bytes:
    """An HTTP answer in chunks, cut off after so many bytes of the body."""
    pieces = [body[at : at + 10_000] for at in range(0, len(body), 10_000)]
    data = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + (data if cut is None else data[:cut])
