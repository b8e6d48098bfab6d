"""One container engine: two requests of the Docker Engine API (1.24 and later; podman serves the same).

`GET /images/NAME/json` tells of an image, `GET /images/ID/get` sends it as `docker save` writes it. HTTP is the
standard library's, as that runs over whatever has `sendall` and `makefile`. What an engine says is not trusted: every
answer and every wait has a bound.
"""

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from urllib.parse import quote

from propolis.errors import DaemonError, ImageNotFound, PropolisError
from propolis.image.daemon.address import Address, Kind
from propolis.image.daemon.pipe import Pipe
from propolis.image.document import MAX_DOCUMENT
from propolis.image.registry.words import MAX_BODY, words
from propolis.image.spool import MAX_SPOOLED
from propolis.image.watchdog import Watchdog

_T = TypeVar("_T")
_PIECE = 256 << 10
_PLAIN = "/:@._-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long an engine is waited for, in seconds, and how much is taken from it, in bytes."""

    connect: float = 10.0
    document: float = 60.0
    """For an answer that is no archive, and for the end of one that is an error."""
    prepare: float = 1800.0
    """Until the first byte of an archive: engines write all of it to a file first."""
    silence: float = 60.0
    """Between two bytes of it."""
    piece: float = 600.0
    """For as much of it as is taken at once."""
    size: int = MAX_SPOOLED


class Engine:
    """The engine at `address`. Each request is a connection of its own."""

    def __init__(self, address: Address, bounds: Bounds | None = None) -> None:
        self.address = address
        self.bounds = bounds or Bounds()

    def inspect(self, name: str) -> bytes:
        """What it knows of the image `name` (also an ID): a JSON document.

        Raises:
            ImageNotFound: it has none of that name.
            DaemonError: it cannot be asked, or does not answer as it should.
        """
        with self._answered(f"/images/{quote(name, safe=_PLAIN)}/json", self.bounds.document) as (answer, _):
            data = self._within(self.bounds.document, lambda: answer.read(MAX_DOCUMENT + 1))
            self._check_whole(answer, len(data) > MAX_DOCUMENT)
            return data

    def export(self, identity: str) -> Iterator[memoryview]:
        """The archive of one image, as it comes; a piece holds until the next one is taken.

        Raises:
            ImageNotFound: it has none of that ID any more.
            DaemonError: it breaks off, goes silent, or does not answer as it should.
        """
        with self._answered(f"/images/{quote(identity, safe=_PLAIN)}/get", self.bounds.prepare) as (answer, stream):
            buffer = memoryview(bytearray(_PIECE))

            def read() -> int:
                return self._within(self.bounds.silence, lambda: answer.readinto(buffer), self._is_silent)

            with Watchdog(self.bounds.piece, partial(_hang_up, stream)) as watchdog:
                while count := watchdog.wait(read):
                    yield buffer[:count]
            self._check_whole(answer, more=False)

    @property
    def _is_silent(self) -> bool:
        """Whether waiting has to be bounded from outside: sockets have time-outs of their own, pipes have none."""
        return self.address.kind is Kind.PIPE

    @contextlib.contextmanager
    def _answered(self, path: str, patience: float) -> Iterator[tuple[http.client.HTTPResponse, Any]]:
        with self._faults(), contextlib.ExitStack() as clean_up:
            connection = http.client.HTTPConnection("localhost")
            clean_up.callback(connection.close)
            stream = connection.sock = _connected(self.address, self.bounds.connect)
            clean_up.callback(_hang_up, stream)  # whatever thread may still be reading
            stream.settimeout(patience)
            answer = self._within(patience, lambda: _ask(connection, path))
            clean_up.callback(answer.close)
            stream.settimeout(self.bounds.silence)
            if answer.status != http.client.OK:
                body = self._within(self.bounds.document, lambda: answer.read(MAX_BODY))
                raise self._refused(answer.status, words(body))
            yield answer, stream

    def _refused(self, status: int, told: str) -> PropolisError:
        if status == http.client.NOT_FOUND:
            return ImageNotFound(
                f"the container engine at {self.address} does not have it{told}",
                hint="see docker images or podman images",
            )
        return DaemonError(f"the container engine at {self.address} answers {status}{told}", hint="see its log")

    def _check_whole(self, answer: http.client.HTTPResponse, more: bool) -> None:
        if more:
            raise DaemonError(
                f"the container engine at {self.address} answers with more than {MAX_DOCUMENT >> 20} MiB",
                hint="see what listens there",
            )
        if answer.length:  # a short one raises by itself only where it comes in chunks
            raise http.client.IncompleteRead(b"")

    def _within(self, seconds: float, call: Callable[[], _T], threaded: bool = True) -> _T:
        """Wait for `call` in a thread, which is left to itself when it takes longer: it bounds sums of waits."""
        if not threaded:
            return call()
        lock, is_late = threading.Lock(), threading.Event()
        found = SimpleQueue[tuple[_T] | BaseException]()

        def run() -> None:
            try:
                result: tuple[_T] | BaseException = (call(),)
            except BaseException as error:  # noqa: BLE001 - it belongs to who waits
                result = error
            with lock:
                if is_late.is_set() and isinstance(result, tuple) and isinstance(result[0], http.client.HTTPResponse):
                    result[0].close()
                found.put(result)

        threading.Thread(target=run, name="propolis-engine", daemon=True).start()
        try:
            result = found.get(timeout=seconds)
        except Empty:
            with lock:
                is_late.set()
                if found.empty():
                    raise TimeoutError from None
                result = found.get()
        if isinstance(result, BaseException):
            raise result
        return result[0]

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Faults of sockets and of HTTP as ours."""
        where = f"the container engine at {self.address}"
        try:
            yield
        except PermissionError as error:
            raise DaemonError(
                f"{where} may not be asked by this user", hint="join the group that owns its socket, as docker"
            ) from error
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise DaemonError(
                f"no container engine listens at {self.address}", hint="start it, or set DOCKER_HOST"
            ) from error
        except TimeoutError as error:
            raise DaemonError(f"{where} does not answer in time", hint="see its log, or restart it") from error
        except ssl.SSLError as error:
            raise DaemonError(
                f"{where} cannot be trusted, or does not trust us: {error.reason or error.strerror}",
                hint="check ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH",
            ) from error
        except http.client.IncompleteRead as error:
            raise DaemonError(f"{where} broke off in the middle", hint="see its log, and try again") from error
        except http.client.HTTPException as error:
            raise DaemonError(f"{where} does not answer as one", hint="see what listens there") from error
        except OSError as error:
            raise DaemonError(
                f"{where} cannot be asked: {error.strerror or error}", hint="check DOCKER_HOST"
            ) from error


def _ask(connection: http.client.HTTPConnection, path: str) -> http.client.HTTPResponse:
    connection.request("GET", path, headers={"User-Agent": "propolis", "Accept-Encoding": "identity"})
    return connection.getresponse()


def _hang_up(stream: Any) -> None:
    with contextlib.suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)


def _connected(address: Address, seconds: float) -> Any:
    if address.kind is Kind.PIPE:
        return Pipe(Path(address.path), seconds)
    if address.kind is Kind.UNIX:
        return _unix(address.path, seconds)
    stream = socket.create_connection((address.path, address.port), seconds)
    if address.certificates is None:
        return stream
    try:
        return _context(address.certificates).wrap_socket(stream, server_hostname=address.path)
    except BaseException:
        stream.close()
        raise


def _unix(path: str, seconds: float) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise OSError(0, "this system's Python has no unix sockets")
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.settimeout(seconds)
        stream.connect(path)
    except BaseException:
        stream.close()
        raise
    return stream


def _context(directory: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=directory / "ca.pem")
        if (directory / "cert.pem").exists():
            context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    except (OSError, ssl.SSLError) as error:
        raise DaemonError(
            f"the certificates in {directory} cannot be used: {error.strerror or error}",
            hint="DOCKER_CERT_PATH names a directory with ca.pem, cert.pem and key.pem",
        ) from error
    return context
