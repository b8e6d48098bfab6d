"""Terminals for tests and pictures: a pseudo-terminal with `propolis` on it, and a tmux, which draws a screen."""

import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

PROPOLIS = Path(sys.executable).with_name("propolis")
PATIENCE = 60
_POLL = 0.2


def _as_a_login_does() -> None:
    """Take the terminal; hear of its end even if the tests were started under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def deliver(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal and wait until it was taken: the same one sent again before that would be lost."""
    process.send_signal(number)
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and _is_pending(process.pid, number):
        assert time.monotonic() < deadline, f"signal {number} was not taken"
        time.sleep(0.005)


def _is_pending(pid: int, number: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    masks = re.findall(r"^(?:Sig|Shd)Pnd:\s*(\w+)", status, re.MULTILINE)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


class Terminal:
    """A `propolis` command on a pseudo-terminal of its own, as its session's leader."""

    def __init__(
        self,
        *arguments: str,
        rows: int = 31,
        columns: int = 97,
        environment: dict[str, str] | None = None,
        program: Sequence[str | Path] = (PROPOLIS,),
    ) -> None:
        """Start it, with `environment` added to ours; `program` is what stands for `propolis`."""
        self.master, self._slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self._slave)
        self._seen = b""
        self._process = subprocess.Popen(
            [*program, *arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=os.environ | (environment or {}),
            start_new_session=True,
            preexec_fn=_as_a_login_does,  # noqa: PLW1509
        )

    def __enter__(self) -> Self:
        """Use it; it is killed on leaving."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()
        os.close(self.master)
        os.close(self._slave)

    def resize(self, rows: int, columns: int) -> None:
        """Drag the window's corner."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Type it."""
        os.write(self.master, text.encode())

    def expect(self, pattern: str) -> str:
        """Wait until the pattern has been printed; returns what came up to its end."""
        deadline = time.monotonic() + PATIENCE
        while (match := re.search(pattern.encode(), self._seen)) is None:
            if select.select([self.master], [], [], _POLL)[0]:
                self._seen += os.read(self.master, 65536)
            else:
                over = self._process.poll() is not None or time.monotonic() > deadline
                assert not over, f"{pattern!r} did not come: {self._seen!r}"
        seen, self._seen = self._seen[: match.end()], self._seen[match.end() :]
        return seen.decode()

    def signal(self, number: int) -> None:
        """Send a signal to the command; it has been taken when this returns."""
        deliver(self._process, number)

    def wait(self) -> int:
        """The exit status; what is still printed is read meanwhile."""
        deadline = time.monotonic() + PATIENCE
        while self._process.poll() is None:
            assert time.monotonic() < deadline, self._seen
            if select.select([self.master], [], [], _POLL)[0]:
                self._seen += os.read(self.master, 65536)
        return self._process.returncode

    def is_restored(self) -> bool:
        """Whether the terminal's modes are as before."""
        restored: bool = termios.tcgetattr(self._slave) == self.before
        return restored


class Tmux:
    """A tmux server of its own with one window, in which a shell runs."""

    def __init__(self, *, rows: int = 24, columns: int = 80) -> None:
        """Start the server; its socket lies in a directory of its own."""
        self._directory = tempfile.TemporaryDirectory(prefix="tmux-", dir="/tmp")
        shell = "env PS1='$ ' HISTFILE= sh"
        self.run("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows), shell)
        self.run("set-option", "-g", "status", "off")

    def __enter__(self) -> Self:
        """Use it; it is killed on leaving."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Kill the server, and with it the window."""
        self.run("kill-server")
        self._directory.cleanup()

    def run(self, *arguments: str) -> str:
        """One command of tmux; returns what it prints."""
        command = ["tmux", "-S", f"{self._directory.name}/socket", *arguments]
        environment = {name: value for name, value in os.environ.items() if name != "TMUX"}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

    def resize(self, rows: int, columns: int) -> None:
        """Give the window another size."""
        self.run("resize-window", "-x", str(columns), "-y", str(rows))

    def type(self, text: str) -> None:
        """Type it, as it is."""
        self.run("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Press keys by tmux' names: Enter, C-z, Escape."""
        self.run("send-keys", *keys)

    def enter(self, *words: str) -> None:
        """Type a command line and press Enter."""
        self.type(shlex.join(words) if len(words) > 1 else words[0])
        self.press("Enter")

    def screen(self, *, colours: bool = False) -> str:
        """What the window shows; with the escape sequences of its colours if asked."""
        return self.run("capture-pane", "-p", *(["-e"] if colours else []))

    def expect(self, pattern: str) -> str:
        """Wait until the screen shows the pattern; returns the screen."""
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, screen := self.screen(), re.MULTILINE):
            assert time.monotonic() < deadline, f"{pattern!r} is not shown:\n{screen}"
            time.sleep(_POLL)
        return screen
