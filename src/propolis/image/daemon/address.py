"""Where container engines listen: what the environment says, or else the usual sockets of docker and podman.

`DOCKER_HOST` (then podman's `CONTAINER_HOST`) as docker reads it: unix://PATH, tcp://HOST:PORT, npipe:////./pipe/NAME.
With `DOCKER_TLS_VERIFY` tcp is TLS, certificates from `DOCKER_CERT_PATH` or ~/.docker.
"""

import os
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from propolis.errors import InvalidArgument

_PORT, _TLS_PORT = 2375, 2376
_VARIABLES = ("DOCKER_HOST", "CONTAINER_HOST")
_SYSTEM_SOCKETS = ("/var/run/docker.sock",)
_SYSTEM_PODMAN = ("/run/podman/podman.sock",)
_PIPES = ("//./pipe/docker_engine", "//./pipe/podman-machine-default")


class Kind(StrEnum):
    """What carries the bytes."""

    UNIX = "unix"
    TCP = "tcp"
    PIPE = "npipe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One place where an engine may listen."""

    kind: Kind
    path: str
    """Of the socket or the pipe; for tcp the host."""
    port: int = 0
    certificates: Path | None = None
    """The directory with ca.pem, cert.pem and key.pem; None: no TLS."""

    def __str__(self) -> str:
        """As `DOCKER_HOST` has it."""
        if self.kind is Kind.TCP:
            return f"tcp://{f'[{self.path}]' if ':' in self.path else self.path}:{self.port}"
        return f"{self.kind}://{self.path}"


def addresses() -> tuple[Address, ...]:
    """Where to ask, in this order; empty where nothing listens.

    Raises:
        InvalidArgument: the environment names what cannot be asked.
    """
    for variable in _VARIABLES:
        text = os.environ.get(variable)
        if text:
            return (_parse(text, variable),)
    kind = Kind.PIPE if sys.platform == "win32" else Kind.UNIX
    return tuple(Address(kind=kind, path=path) for path in _usual() if _is_there(path))


def has_socket() -> bool:
    """Whether an engine seems to run on this host, without asking it."""
    return any(map(_is_there, _usual()))


def _parse(text: str, variable: str) -> Address:
    scheme, _, rest = text.partition("://")
    if scheme in (Kind.UNIX, Kind.PIPE) and rest:
        return Address(kind=Kind(scheme), path=rest)
    if scheme == "ssh":
        raise InvalidArgument(
            f"{variable} leads over ssh, which is not done",
            hint="forward its socket: ssh -NL /tmp/engine.sock:/var/run/docker.sock HOST; "
            f"then {variable}=unix:///tmp/engine.sock",
        )
    if scheme == Kind.TCP:
        certificates = _certificates()
        try:
            parts = urlsplit(text)
            port = parts.port or (_TLS_PORT if certificates else _PORT)
        except ValueError:
            parts, port = urlsplit("tcp:"), 0
        if parts.hostname and parts.path in ("", "/"):
            return Address(kind=Kind.TCP, path=parts.hostname, port=port, certificates=certificates)
    raise InvalidArgument(
        f"{variable} names no place where a container engine can be asked",
        hint="as in unix:///var/run/docker.sock or tcp://HOST:2376",
    )


def _certificates() -> Path | None:
    if not os.environ.get("DOCKER_TLS_VERIFY"):
        return None
    given = os.environ.get("DOCKER_CERT_PATH")
    return Path(given) if given else Path.home() / ".docker"


def _usual() -> tuple[str, ...]:
    if sys.platform == "win32":
        return _PIPES
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    users = (f"{runtime}/docker.sock", f"{runtime}/podman/podman.sock") if runtime else ("", "")
    home = str(Path.home() / ".docker/run/docker.sock")
    return tuple(path for path in (users[0], home, *_SYSTEM_SOCKETS, users[1], *_SYSTEM_PODMAN) if path)


def _is_there(path: str) -> bool:
    try:
        if sys.platform == "win32":  # to look at a pipe itself would be to connect to it
            return Path(path).name in os.listdir("//./pipe/")  # noqa: PTH208 - it is no path to pathlib
        return Path(path).is_socket()
    except OSError:
        return False
