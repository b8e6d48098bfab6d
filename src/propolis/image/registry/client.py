"""One registry's API for one repository: manifests, their digests, blobs.

Follows the OCI distribution specification 1.1, "Pull". Verifies nothing by digest: whoever asks does.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from propolis.errors import AccessDenied, ImageNotFound, RegistryError
from propolis.image.digest import is_digest, short
from propolis.image.document import MAX_DOCUMENT
from propolis.image.manifest import INDEX_TYPES, MANIFEST_TYPES, OCI_INDEX
from propolis.image.registry.address import Address, parse_address
from propolis.image.registry.auth import Authenticator
from propolis.image.registry.challenge import parse_challenges
from propolis.image.registry.configuration import Origin
from propolis.image.registry.credentials import Credentials
from propolis.image.registry.exchange import Answer, Exchange
from propolis.image.registry.name import DEFAULT_DOMAIN
from propolis.image.registry.retry import Patience, Transient, persevere, retry_after
from propolis.image.registry.words import MAX_BODY, words

_DOCKER_HUB = "registry-1.docker.io"
_ACCEPT = ", ".join((*INDEX_TYPES, *MANIFEST_TYPES))
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_FINE = (200, 206)


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or an index as it came."""

    data: bytes
    media_type: str
    """What the registry calls it."""
    digest: str
    """What the registry says it is; empty where it says nothing."""


class RegistryClient:
    """Reads from one repository. For any number of threads."""

    def __init__(self, origin: Origin, find: Callable[[], Credentials | None], patience: Patience) -> None:
        """Nothing is connected yet; `find` gives credentials when the registry wants them.

        Raises:
            InvalidArgument: a proxy or a certificate on this host cannot be used.
        """
        self.origin = origin
        self._patience = patience
        self._server = _DOCKER_HUB if origin.domain == DEFAULT_DOMAIN else origin.domain
        self._exchange = Exchange(origin.domain, insecure=origin.insecure, patience=patience, server=self._server)
        self._auth = Authenticator(self._exchange, find)
        self._scope = f"repository:{origin.repository}:pull"
        self._scheme = ""
        self._lock = threading.Lock()

    def manifest(self, target: str) -> Document:
        """The manifest or index of a tag or digest.

        Raises:
            ImageNotFound: there is none.
            AccessDenied, RegistryUnreachable, RegistryError: as their names say.
        """

        def get() -> Document:
            with self.opened("GET", f"manifests/{target}", {"Accept": _ACCEPT}) as answer:
                kind = answer.headers.get("content-type", "").partition(";")[0].strip()
                said = answer.headers.get("docker-content-digest", "").strip()
                return Document(answer.body(MAX_DOCUMENT), kind, said if is_digest(said) else "")

        return persevere(self._patience, get)

    def digest_of(self, tag: str) -> str:
        """What a tag names at the moment, without fetching it; empty where the registry does not tell.

        Raises:
            As `manifest`.
        """

        def head() -> str:
            with self.opened("HEAD", f"manifests/{tag}", {"Accept": _ACCEPT}) as answer:
                said = answer.headers.get("docker-content-digest", "").strip()
                return said if is_digest(said) else ""

        return persevere(self._patience, head)

    def small_blob(self, digest: str, limit: int = MAX_DOCUMENT) -> bytes:
        """A blob of at most `limit` bytes; errors as `manifest`."""

        def get() -> bytes:
            with self.opened("GET", f"blobs/{digest}", {}) as answer:
                return answer.body(limit)

        return persevere(self._patience, get)

    def referrers(self, digest: str) -> bytes:
        """The index of manifests whose subject is `digest`; errors as `manifest`, ImageNotFound if there is none."""

        def get() -> bytes:
            with self.opened("GET", f"referrers/{digest}", {"Accept": OCI_INDEX}) as answer:
                return answer.body(MAX_DOCUMENT)

        try:
            return persevere(self._patience, get)
        except ImageNotFound:  # a registry that does not know of referrers; then there is a tag in their place
            return self.manifest(digest.replace(":", "-")).data

    @contextlib.contextmanager
    def opened(self, method: str, path: str, headers: Mapping[str, str]) -> Iterator[Answer]:
        """Ask once, as whoever we are to this registry; the answer is 200 or 206.

        Raises:
            Transient: it may go well another time.
            Otherwise as `manifest`.
        """
        address = self._address(path)
        shown = f"{self.origin}, {_shown(path)}"
        authorization = self._auth.header(self._scope)
        for attempt in range(2):
            sent = {**headers, "Authorization": authorization} if authorization else dict(headers)
            with self._exchange.send(method, address, sent) as answer:
                if answer.status in _FINE:
                    yield answer
                    return
                # where a redirect led, nobody is told who we are
                if answer.status != HTTPStatus.UNAUTHORIZED or attempt or answer.address.origin != address.origin:
                    raise self._fault(answer, shown)
                challenges = parse_challenges(answer.fields("www-authenticate"))
                fault = self._fault(answer, shown)
            authorization = self._auth.answer(address, challenges, self._scope, authorization)
            if not authorization:
                raise fault

    def close(self) -> None:
        """Close all connections."""
        self._exchange.close()

    def _address(self, path: str) -> Address:
        return parse_address(f"{self._found_scheme()}://{self._server}/v2/{self.origin.repository}/{path}")

    def _found_scheme(self) -> str:
        """TLS, but a registry on this host may do without, as docker has it; so may one that is marked as insecure."""
        if not self._exchange.is_loopback and not self.origin.insecure:
            return "https"
        with self._lock:
            if not self._scheme:
                # what is on this host seldom has TLS; elsewhere nothing is said in the clear if it can be helped
                order = ("http", "https") if self._exchange.is_loopback else ("https", "http")
                places = ((name, parse_address(f"{name}://{self._server}/v2/")) for name in order)
                self._scheme = next((name for name, place in places if self._exchange.answers(place)), "")
            return self._scheme or "https"

    def _fault(self, answer: Answer, shown: str) -> Exception:
        """What an answer that is no success means."""
        status = answer.status
        try:
            said = words(answer.body(MAX_BODY), self._auth.secrets)
        except (Transient, RegistryError):
            said = ""
        what = f"{shown}: the registry answers {status}{said}"
        if status in _TRY_AGAIN:
            hint = "log in for a higher limit, or try again later" if status == HTTPStatus.TOO_MANY_REQUESTS else ""
            wait = retry_after(answer.headers.get("retry-after"))
            return Transient(RegistryError(what, hint=hint or "try again later"), wait=wait)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            login = f"docker login {self.origin.domain}"
            if self._auth.has_login:
                return AccessDenied(what, hint=f"the login that is kept for it does not do: check the name, or {login}")
            return AccessDenied(what, hint=f"check the name; if it is right: {login}")
        if status == HTTPStatus.NOT_FOUND:
            return ImageNotFound(f"{shown}: not there{said}", hint="check the name and the tag")
        return RegistryError(what)


def _shown(path: str) -> str:
    """How messages name what was asked for."""
    kind, _, target = path.partition("/")
    return f"{'blob' if kind == 'blobs' else 'image'} {short(target) if is_digest(target) else target}"
