"""A directory that a machine is shown while it runs: diod, an independent 9P server, behind a port of the machine.

As with the service of Windows a share is attached to by its name; diod wants its path there, which is put in.
"""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

from hcs.monitor import MonitorError
from hcs.streams import GuestPort, pass_on
from propolis.spec import Share

_TATTACH = 104
_MOST_MESSAGE = 1 << 20
_PROGRAM = "/usr/sbin/diod"


class ShareServer:
    """One share. `port` is where QEMU connects to; diod runs while the guest has its side open."""

    def __init__(self, share: Share) -> None:
        """Wait for QEMU's connection.

        Raises:
            MonitorError: diod is not installed.
        """
        if not Path(_PROGRAM).exists():
            raise MonitorError("diod, which serves shares that are added to a machine that runs, is not installed")
        self._path = share.path.resolve()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._guest: socket.socket | None = None
        self._port: GuestPort | None = None
        self._process: subprocess.Popen | None = None
        self._relays: list[threading.Thread] = []
        options = "ro" if share.read_only else ""
        self._directory = Path(tempfile.mkdtemp(prefix="diod-"))
        exports = f"exports = {{ {{ path={_quoted(str(self._path))}, opts={_quoted(options)} }} }}\n"
        # as with the service of Windows, one identity for whoever asks: the kernel attaches as nobody first
        exports += f"allsquash = 1\nsquashuser = {_quoted(getpass.getuser())}\n"
        (self._directory / "diod.conf").write_text(exports)

    def opened(self, is_open: bool) -> None:
        """The guest has opened its side, or has closed it."""
        if self._port is not None:
            self._port.close()
            self._port = None
        if is_open:
            if self._guest is None:
                self._guest, _ = self._server.accept()
            self._port = GuestPort(self._guest, self._start)

    def close(self) -> None:
        """End the server, and all that is connected to it."""
        self.opened(False)
        self._server.close()
        if self._guest is not None:
            self._guest.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for relay in self._relays:
            relay.join()
        shutil.rmtree(self._directory)

    def _start(self) -> socket.socket:
        near, far = socket.socketpair()
        ours, guests = socket.socketpair()
        number = str(far.fileno())
        command = [_PROGRAM, "-f", "-n", "-c", str(self._directory / "diod.conf"), "-L", "stderr"]
        with far, (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "-r", number, "-w", number],
                pass_fds=(far.fileno(),), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        relay = threading.Thread(target=self._relay, args=(ours, near), daemon=True)
        self._relays.append(relay)
        relay.start()
        return guests

    def _relay(self, guest: socket.socket, server: socket.socket) -> None:
        with guest, server:
            answers = threading.Thread(target=pass_on, args=(server, guest), daemon=True)
            answers.start()
            self._pass_requests(guest, server)
            answers.join()

    def _pass_requests(self, source: socket.socket, target: socket.socket) -> None:
        path = os.fsencode(self._path)
        with contextlib.suppress(OSError), source.makefile("rb") as stream:
            while len(head := stream.read(4)) == 4:
                size = int.from_bytes(head, "little")
                if not 7 <= size <= _MOST_MESSAGE:
                    break
                target.sendall(_with_path(head + stream.read(size - 4), path))
            target.shutdown(socket.SHUT_WR)


def _with_path(message: bytes, path: bytes) -> bytes:
    """The message; in an attach (fid, afid, user's name, name) what is attached to becomes `path`."""
    if message[4] != _TATTACH:
        return message
    at = 7 + 8 + 2 + int.from_bytes(message[15:17], "little")
    length = int.from_bytes(message[at : at + 2], "little")
    body = message[4:at] + len(path).to_bytes(2, "little") + path + message[at + 2 + length :]
    return (4 + len(body)).to_bytes(4, "little") + body


def _quoted(text: str) -> str:
    """As Lua reads it."""
    return (
        '"'
        + "".join(f"\\{byte:03d}" if byte in b'"\\\n' or byte > 126 else chr(byte) for byte in os.fsencode(text))
        + '"'
    )
