"""What the Hyper-V backend needs of Windows, from Linux: the stand-in, unix sockets as pipes, TCP as hvsocket.

The one double of the backend's own protocol; everything above and below it is real.
"""

import contextlib
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from propolis.errors import BackendError
from propolis.hypervisor.hyperv._ffi import ComputeCore

USER = "S-1-5-21-1004336348-1177238915-682003330-1001"
TOKEN = 0x2A4


class LinuxPlatform:
    """See `propolis.hypervisor.hyperv.base.Platform`. `directory` must have a short path, as it holds unix sockets."""

    def __init__(self, library: Path, directory: Path, *, build: int = 22631, hvsockets: Path | None = None):
        self.path, self.directory, self.number, self.hvsockets = library, directory, build, hvsockets
        self.listeners: list[socket.socket] = []
        self.consoles: list[UnixConsole] = []

    def library(self) -> ComputeCore:
        """The stand-in."""
        return ComputeCore(str(self.path))

    def build(self) -> int:
        """The build that was asked for."""
        return self.number

    def user_sid(self) -> str:
        """Some user."""
        return USER

    @contextlib.contextmanager
    def user_token(self) -> Iterator[int]:
        """Some handle; the stand-in only asks whether there is one."""
        yield TOKEN

    def console(self, name: str, take: Callable[[bytes], None]) -> "UnixConsole":
        """A unix socket that listens."""
        self.consoles.append(UnixConsole(self.directory / name[-16:], take))
        return self.consoles[-1]

    def listen(self, vm_id: uuid.UUID, service_id: uuid.UUID) -> socket.socket:
        """A TCP socket whose port is published as the bridge expects it."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.listeners.append(listener)
        if self.hvsockets is not None:
            staged = self.hvsockets / f".{vm_id}.{service_id}"
            staged.write_text(str(listener.getsockname()[1]))
            staged.rename(self.hvsockets / f"{vm_id}.{service_id}")
        return listener

    def reach(self, path: Path) -> Path:
        """Where it is really, if it is there; whatever else Windows asks of a file is not asked here."""
        if not path.exists():
            raise BackendError(f"{path} cannot be read: it does not exist")
        return path.resolve()

    def held(self) -> list[object]:
        """What is still open, or lies in the directory."""
        open_listeners = [listener for listener in self.listeners if listener.fileno() >= 0]
        return [
            *open_listeners,
            *(console for console in self.consoles if not console.closed),
            *self.directory.iterdir(),
        ]


class UnixConsole:
    """See `propolis.hypervisor.hyperv.base.ConsolePipe`: takes connections one after another."""

    def __init__(self, path: Path, take: Callable[[bytes], None]):
        self._path, self._take = path, take
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(1)
        self._connection: socket.socket | None = None
        self.closed = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def path(self) -> str:
        """Where the machine connects to."""
        return str(self._path)

    def close(self) -> None:
        """Read what has been written, and end."""
        if self.closed:
            return
        self.closed = True
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(1)
        if self._thread.is_alive() and self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
            self._thread.join()
        self._path.unlink()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._connection, _ = self._server.accept()
                with self._connection:
                    while data := self._connection.recv(4096):
                        self._take(data)
