"""Who we are to a registry: what `docker login`, `podman login` and credential helpers keep.

Follows docker's config.json, containers-auth.json(5) and the protocol of docker-credential-* programs. Secrets are in
no representation and no message.
"""

import base64
import binascii
import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from propolis.errors import AccessDenied, ImageInvalid, InvalidArgument
from propolis.image import document
from propolis.image.registry.files import credential_files, read_small
from propolis.image.registry.name import DEFAULT_DOMAIN

_HELPER_TIMEOUT = 30.0
"""Seconds; some ask the user."""
_MAX_ANSWER = 1 << 20
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DOCKER_HUB = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"  # noqa: S105 - how helpers say that the secret is an identity token


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user with a password, or an identity token."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def is_text(self) -> bool:
        """Whether it can be sent: JSON can hold halves of characters."""
        try:
            f"{self.username}{self.password}{self.identity_token}".encode()
        except UnicodeEncodeError:
            return False
        return True

    @property
    def basic(self) -> str:
        """The value of Authorization for the scheme Basic."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def find_credentials(domain: str, repository: str) -> Credentials | None:
    """What this host keeps for a repository: the entry of the longest part of its name counts. None: anonymous.

    Raises:
        InvalidArgument: a file cannot be read or understood.
        AccessDenied: a helper that is named for this registry fails.
    """
    keys = list(_keys(domain, repository))
    for where, data in _documents():
        found = _Stored(where, data).find(keys)
        if found is not None:
            if not found.is_text:
                raise InvalidArgument(
                    f"what is kept for {domain}, according to {where}, is no text", hint="log in again"
                )
            return found
    return None


def _documents() -> Iterator[tuple[str, bytes]]:
    given = os.environ.get("DOCKER_AUTH_CONFIG")
    if given:
        yield "DOCKER_AUTH_CONFIG", given.encode(errors="surrogateescape")
    for path in credential_files():
        data = read_small(path)
        if data is not None and data.strip():
            yield str(path), data


def _keys(domain: str, repository: str) -> Iterator[str]:
    """How a repository may be named in these files, most specific first."""
    parts = repository.split("/")
    for count in range(len(parts), -1, -1):
        yield "/".join([domain, *parts[:count]])
    if domain == DEFAULT_DOMAIN:
        yield from ("index.docker.io", "registry-1.docker.io")


class _Stored:
    """One file."""

    def __init__(self, where: str, data: bytes) -> None:
        self._where = where
        try:
            loaded = document.load(data, where)
        except ImageInvalid as error:
            raise InvalidArgument(str(error), hint="correct it, or log in again") from None
        self._values = self._mapping(loaded, "the document")

    def find(self, keys: list[str]) -> Credentials | None:
        helpers = self._mapping(self._values.get("credHelpers"), "credHelpers")
        for key in keys:
            if isinstance(helper := helpers.get(key), str) and helper:
                found = ask_helper(helper, _server(key))
                if found is not None:
                    return found
        entries: dict[str, Any] = {}
        for key, entry in self._mapping(self._values.get("auths"), "auths").items():
            entries.setdefault(_bare(key), entry)
        store = self._values.get("credsStore")
        for key in keys:
            found = self._entry(entries.get(key), key)
            if found is not None:
                return found
        if isinstance(store, str) and store and shutil.which(f"docker-credential-{store}"):
            for key in keys[-3:] if keys[-1] == "registry-1.docker.io" else keys[-1:]:
                found = ask_helper(store, _server(key))
                if found is not None:
                    return found
        return None

    def _entry(self, entry: Any, key: str) -> Credentials | None:
        values = self._mapping(entry, f"auths.{key[:80]}")
        token, encoded = values.get("identitytoken"), values.get("auth")
        if isinstance(token, str) and token:
            return Credentials(identity_token=token)
        if isinstance(values.get("username"), str) and isinstance(values.get("password"), str) and values["username"]:
            return Credentials(username=values["username"], password=values["password"])
        if not isinstance(encoded, str) or not encoded:
            return None
        try:
            user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            user, colon, password = "", "", ""
        if not colon:
            raise InvalidArgument(
                f"{self._where}: auths.{key[:80]}.auth is not base64 of USER:PASSWORD", hint="log in again"
            )
        return Credentials(username=user, password=password.strip("\0"))

    def _mapping(self, value: Any, what: str) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise InvalidArgument(f"{self._where}: {what} is not a JSON object", hint="correct it, or log in again")
        return value


def _bare(key: str) -> str:
    """Docker writes some keys as addresses."""
    return re.sub(r"^https?://", "", key).removesuffix("/").removesuffix("/v1").removesuffix("/v2")


def _server(key: str) -> str:
    """How helpers know a registry."""
    return _DOCKER_HUB if key in (DEFAULT_DOMAIN, "index.docker.io") else key


def ask_helper(name: str, server: str, timeout: float = _HELPER_TIMEOUT) -> Credentials | None:
    """What docker-credential-`name` keeps for `server`; None when it has nothing.

    Raises:
        InvalidArgument: that cannot be the name of a helper.
        AccessDenied: it is not there, fails, takes more than `timeout` seconds, or answers nonsense.
    """
    if not _HELPER_NAME.fullmatch(name):
        raise InvalidArgument(f"{name[:80]!r} is not the name of a credential helper")
    program = shutil.which(f"docker-credential-{name}")
    if program is None:
        raise AccessDenied(
            f"docker-credential-{name}, which is to know the credentials for {server}, is not installed",
            hint="install it, or remove it from credHelpers in docker's config.json",
        )
    status, answer = _run([program, "get"], server.encode(), timeout, name)
    if status:
        words = answer.decode(errors="replace").strip()
        if "credentials not found" in words.lower():
            return None
        raise AccessDenied(f"docker-credential-{name} failed for {server} with status {status}", hint="log in again")
    try:
        found = json.loads(answer)
        user, secret = found["Username"], found["Secret"]
    except (ValueError, RecursionError, KeyError, TypeError):
        user = secret = None
    if not isinstance(user, str) or not isinstance(secret, str):
        raise AccessDenied(f"docker-credential-{name} answered nonsense for {server}", hint="log in again")
    if not secret:
        return None
    return Credentials(identity_token=secret) if user == _TOKEN_USER else Credentials(username=user, password=secret)


def _run(command: list[str], given: bytes, timeout: float, name: str) -> tuple[int, bytes]:
    """Exit status and output, at most `_MAX_ANSWER` bytes of it."""
    answer = bytearray()
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
    except OSError as error:
        raise AccessDenied(f"docker-credential-{name} cannot be started: {error.strerror}") from error
    assert process.stdin is not None and process.stdout is not None
    output = process.stdout

    def read() -> None:
        with contextlib.suppress(ValueError):  # closed: somebody whom it has started still has the other end
            while len(answer) <= _MAX_ANSWER and (piece := output.read(65536)):
                answer.extend(piece)

    with process.stdin as stdin:
        try:
            stdin.write(given)
        except OSError:
            pass  # it answers without having read
    reader = threading.Thread(target=read, name="propolis-credential-helper", daemon=True)
    reader.start()
    reader.join(timeout)
    try:
        if reader.is_alive() or len(answer) > _MAX_ANSWER:
            raise TimeoutError
        status = process.wait(timeout)
    except (TimeoutError, subprocess.TimeoutExpired):
        raise AccessDenied(
            f"docker-credential-{name} did not answer within {timeout:g} s, or with more than 1 MiB",
            hint="see whether it waits for you, or log in again",
        ) from None
    finally:
        process.kill()
        process.wait()
        output.close()
    return status, bytes(answer)
