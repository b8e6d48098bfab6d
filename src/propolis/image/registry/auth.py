"""How we show a registry who we are: Basic, or a token from where its challenge points.

Follows the distribution project's token and OAuth2 documents. Tokens are kept per scope until shortly before they
expire.
"""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from propolis.errors import AccessDenied, RegistryError
from propolis.image.registry.address import Address
from propolis.image.registry.challenge import Challenge
from propolis.image.registry.credentials import Credentials
from propolis.image.registry.exchange import Answer, Exchange
from propolis.image.registry.retry import Transient, persevere, retry_after
from propolis.image.registry.words import words

MAX_TOKEN_ANSWER = 1 << 20
"""Bytes."""
_DEFAULT_LIFETIME = 60
_LONGEST_LIFETIME = 1 << 20
_MARGIN = 10.0
"""Seconds before its end at which a token is not used any more."""
_CLIENT = "propolis"


@dataclass(frozen=True, slots=True)
class _Kept:
    header: str
    until: float


class Authenticator:
    """What Authorization says to one registry. For any number of threads: one of them fetches a token, all use it."""

    def __init__(
        self, exchange: Exchange, find: Callable[[], Credentials | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`find` is asked once, when a registry first wants to know who we are."""
        self._exchange = exchange
        self._find = find
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}
        self._found: list[Credentials | None] = []

    def header(self, scope: str) -> str:
        """The value for requests of that scope; empty as long as none was asked for."""
        kept = self._kept.get(scope)
        return kept.header if kept is not None and kept.until > self._clock() else ""

    def answer(self, base: Address, challenges: Sequence[Challenge], scope: str, refused: str) -> str:
        """Another value in place of the one that was `refused`; empty when there is no way.

        Raises:
            AccessDenied: the token server refuses us.
            RegistryError: it cannot be used.
        """
        with self._lock:
            current = self.header(scope)
            if current and current != refused:
                return current
            self._kept.pop(scope, None)
            for challenge in challenges:
                if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                    fetch = partial(self._token, base, challenge, scope)
                    self._kept[scope] = persevere(self._exchange.patience, fetch)
                    return self.header(scope)
            credentials = self._credentials()
            if any(challenge.scheme == "basic" for challenge in challenges) and credentials and credentials.username:
                self._kept[scope] = _Kept(credentials.basic, float("inf"))
            return "" if self.header(scope) == refused else self.header(scope)

    @property
    def has_login(self) -> bool:
        """Whether a login was found when the registry asked for one."""
        return any(credentials is not None for credentials in self._found)

    @property
    def secrets(self) -> list[str]:
        """What must not be shown, whoever says it."""
        found = [kept.header.partition(" ")[2] for kept in self._kept.values()]
        for credentials in self._found:
            if credentials is not None:
                found += [credentials.password, credentials.identity_token]
        return [secret for secret in found if secret]

    def _credentials(self) -> Credentials | None:
        if not self._found:
            self._found.append(self._find())
        return self._found[0]

    def _token(self, base: Address, challenge: Challenge, scope: str) -> _Kept:
        address = self._exchange.target(base, challenge.parameters["realm"])
        credentials = self._credentials()
        query = {
            "service": challenge.parameters.get("service", ""),
            "scope": challenge.parameters.get("scope") or scope,
        }
        query = {name: value for name, value in query.items() if value}
        began = self._clock()
        if credentials is not None and credentials.identity_token:
            form = query | {
                "grant_type": "refresh_token",
                "client_id": _CLIENT,
                "refresh_token": credentials.identity_token,
            }
            with self._exchange.send("POST", address, {}, form) as answer:
                return self._kept_token(answer, began)
        headers = {"Authorization": credentials.basic} if credentials else {}
        if credentials:
            query["account"] = credentials.username
        with self._exchange.send("GET", address.with_query(query), headers) as answer:
            return self._kept_token(answer, began)

    def _kept_token(self, answer: Answer, began: float) -> _Kept:
        where = answer.address.shown
        body = answer.body(MAX_TOKEN_ANSWER)
        said = words(body, self.secrets)
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Transient(
                RegistryError(f"the token server {where} answers {answer.status}{said}", hint="try again later"),
                wait=retry_after(answer.headers.get("retry-after")),
            )
        if answer.status != HTTPStatus.OK:
            raise AccessDenied(
                f"the token server {where} answers {answer.status}{said}",
                hint="check the login: docker login, podman login",
            )
        try:
            document = json.loads(body)
            token = document.get("token") or document.get("access_token")
            lifetime = document.get("expires_in") or _DEFAULT_LIFETIME
        except (ValueError, RecursionError, AttributeError):
            token, lifetime = None, 0
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
            raise RegistryError(f"the token server {where} answers with no token", hint="this registry cannot be used")
        if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or not lifetime >= _DEFAULT_LIFETIME:
            lifetime = _DEFAULT_LIFETIME  # as docker's client takes shorter ones, which old servers give
        return _Kept(f"Bearer {token}", began + min(lifetime, _LONGEST_LIFETIME) - _MARGIN)
