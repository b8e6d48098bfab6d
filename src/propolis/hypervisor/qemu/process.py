"""The QEMU process: started under a warden, its output kept, its end awaited.

The warden is a few lines of shell between us and QEMU. It holds a pipe whose other end only this process has; when
this process dies, by whatever signal, the pipe ends and the warden kills QEMU at once. That needs no cooperation of
the guest and works on every POSIX system. Knows nothing of machines or QMP.
"""

import os
import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import anyio

from propolis.host import system
from propolis.hypervisor.console import Tail

_WARDEN = """
exec 3<&0
"$@" </dev/null 3<&- & vmm=$!
( read -r _ <&3; kill -KILL "$vmm" ) >/dev/null 2>&1 & guard=$!
exec 3<&-
wait "$vmm"; status=$?
kill "$guard"
exit "$status"
"""


class VMMProcess:
    """One QEMU under its warden, leader of a session of its own."""

    def __init__(self, argv: Sequence[str], inherit: Sequence[int], pid_file: Path) -> None:
        """Start it; `inherit` are descriptors it gets under their own numbers.

        Raises:
            OSError: the shell cannot be started.
        """
        self._pid_file = pid_file
        self.console = Tail()
        self.messages = Tail()
        # the receiving end becomes readable (at its end) when the process is gone
        self._ended, self._ending = socket.socketpair()
        self._ended.setblocking(False)
        self._turn = anyio.Lock()
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _WARDEN, "propolis-warden", *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=inherit,
                start_new_session=True,
            )
        except BaseException:
            self._ended.close()
            self._ending.close()
            raise
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            threading.Thread(target=_keep, args=(self._process.stdout.fileno(), self.console), daemon=True),
            threading.Thread(target=_keep, args=(self._process.stderr.fileno(), self.messages), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        threading.Thread(target=self._watch, daemon=True, name="propolis-vmm").start()

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.returncode

    @property
    def pids(self) -> tuple[int, ...]:
        """QEMU's pid, once QEMU has written it; empty before and after."""
        try:
            return (int(self._pid_file.read_text()),) if self.returncode is None else ()
        except (FileNotFoundError, ValueError):
            return ()

    async def wait(self) -> int:
        """Return the exit status once the process is gone and all it printed has been kept."""
        async with self._turn:
            if self._ended.fileno() >= 0:
                await anyio.wait_readable(self._ended)
                self._ended.close()
        assert self._process.returncode is not None
        return self._process.returncode

    def kill(self) -> None:
        """End QEMU and its warden now; returns without waiting for it."""
        if self.returncode is None:
            system.kill_group(self._process.pid)

    def _watch(self) -> None:
        for reader in self._readers:
            reader.join()
        self._process.wait()
        self._pid_file.unlink(missing_ok=True)  # a QEMU that is killed leaves it
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
        self._ending.close()


def _keep(descriptor: int, tail: Tail) -> None:
    while data := os.read(descriptor, 16384):
        tail.append(data)
