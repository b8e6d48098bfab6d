"""The files of this host that registries are configured by: ours, and those of podman, skopeo and docker.

Only finds and reads them; `configuration` and `credentials` know what they mean.
"""

import os
from pathlib import Path

from propolis.errors import InvalidArgument
from propolis.host.directories import configuration_directory
from propolis.image.registry.configuration import MAX_DOCUMENT, Configuration, parse_configuration

_SYSTEM = Path("/etc/containers")
_CERTIFICATES = (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))


def read_configuration() -> Configuration:
    """All registries.conf of this host as one: the system's or the user's in its place, additions, and ours last.

    Raises:
        InvalidArgument: one of them cannot be read or understood; the message names it.
    """
    merged = Configuration()
    for path in _configurations():
        data = read_small(path)
        if data is not None:
            merged = merged.merged(*parse_configuration(data, str(path)))
    return merged


def _configurations() -> list[Path]:
    user = _user_directory()
    chosen = os.environ.get("CONTAINERS_REGISTRIES_CONF") or os.environ.get("REGISTRIES_CONFIG_PATH")
    if chosen:
        paths = [Path(chosen)]
    else:
        own = user / "registries.conf"
        paths = [own if own.is_file() else _SYSTEM / "registries.conf"]
        for directory in (_SYSTEM / "registries.conf.d", user / "registries.conf.d"):
            paths += sorted(directory.glob("*.conf"))
    return [*paths, configuration_directory() / "registries.conf"]


def credential_files() -> list[Path]:
    """Where credentials may lie, in the order to look: podman's and skopeo's, then docker's."""
    chosen = os.environ.get("REGISTRY_AUTH_FILE")
    if chosen:
        return [Path(chosen)]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    paths = [Path(runtime) / "containers" / "auth.json"] if runtime else []
    paths.append(_user_directory() / "auth.json")
    docker = os.environ.get("DOCKER_CONFIG")
    return [*paths, (Path(docker) if docker else _home() / ".docker") / "config.json"]


def certificate_directories(domain: str) -> list[Path]:
    """Where CA and client certificates for one registry may lie, as podman and docker have them."""
    places = (configuration_directory() / "certs.d", _user_directory() / "certs.d", *_CERTIFICATES)
    return [place / domain for place in places if (place / domain).is_dir()]


def read_small(path: Path) -> bytes | None:
    """A file of configuration; None where there is none.

    Raises:
        InvalidArgument: it is there, but cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_DOCUMENT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidArgument(
            f"cannot read {path}: {error.strerror}", hint="check its owner and permissions"
        ) from error


def _user_directory() -> Path:
    chosen = os.environ.get("XDG_CONFIG_HOME")
    return (Path(chosen) if chosen else _home() / ".config") / "containers"


def _home() -> Path:
    return Path("~").expanduser()
