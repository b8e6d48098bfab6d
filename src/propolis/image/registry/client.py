"""One registry's API for one repository: manifests, their digests, blobs.

Follows the OCI distribution specification 1.1, "Pull". Verifies nothing by digest: whoever asks does.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import httpx

from propolis.errors import AccessDenied, ImageNotFound, RegistryError
from propolis.image.digest import is_digest, short
from propolis.image.document import MAX_DOCUMENT
from propolis.image.manifest import INDEX_TYPES, MANIFEST_TYPES
from propolis.image.registry.auth import Authenticator
from propolis.image.registry.challenge import parse_challenges
from propolis.image.registry.configuration import Origin
from propolis.image.registry.credentials import Credentials
from propolis.image.registry.exchange import Answer, Exchange, host_shown
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
        self._exchange = Exchange(origin.domain, insecure=origin.insecure, patience=patience)
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

    def small_blob(self, digest: str) -> bytes:
        """A config; errors as `manifest`."""

        def get() -> bytes:
            with self.opened("GET", f"blobs/{digest}", {}) as answer:
                return answer.body(MAX_DOCUMENT)

        return persevere(self._patience, get)

    @contextlib.contextmanager
    def opened(self, method: str, path: str, headers: Mapping[str, str]) -> Iterator[Answer]:
        """Ask once, as whoever we are to this registry; the answer is 200 or 206.

        Raises:
            Transient: it may go well another time.
            Otherwise as `manifest`.
        """
        url = self._address(path)
        shown = f"{self.origin}, {_shown(path)}"
        authorization = self._auth.header(self._scope)
        for attempt in range(2):
            sent = {**headers, "Authorization": authorization} if authorization else dict(headers)
            with self._exchange.send(method, url, sent) as answer:
                if answer.status in _FINE:
                    yield answer
                    return
                # where a redirect led, nobody is told who we are
                if answer.status != httpx.codes.UNAUTHORIZED or attempt or host_shown(answer.url) != host_shown(url):
                    raise self._fault(answer, shown)
                challenges = parse_challenges(answer.headers.get_list("www-authenticate"))
                fault = self._fault(answer, shown)
            authorization = self._auth.answer(url, challenges, self._scope, authorization)
            if not authorization:
                raise fault

    def close(self) -> None:
        """Close all connections."""
        self._exchange.close()

    def _address(self, path: str) -> httpx.URL:
        domain = _DOCKER_HUB if self.origin.domain == DEFAULT_DOMAIN else self.origin.domain
        return httpx.URL(f"{self._scheme_of(domain)}://{domain}/v2/{self.origin.repository}/{path}")

    def _scheme_of(self, domain: str) -> str:
        """TLS, but a registry on this host may do without, as docker has it; so may one that is marked as insecure."""
        if not self._exchange.is_loopback and not self.origin.insecure:
            return "https"
        with self._lock:
            if not self._scheme:
                # what is on this host seldom has TLS; elsewhere nothing is said in the clear if it can be helped
                order = ("http", "https") if self._exchange.is_loopback else ("https", "http")
                found = (name for name in order if self._exchange.answers(httpx.URL(f"{name}://{domain}/v2/")))
                self._scheme = next(found, "")
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
            hint = "log in for a higher limit, or try again later" if status == httpx.codes.TOO_MANY_REQUESTS else ""
            wait = retry_after(answer.headers.get("retry-after"))
            return Transient(RegistryError(what, hint=hint or "try again later"), wait=wait)
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return AccessDenied(what, hint=f"check the name; if it is right: docker login {self.origin.domain}")
        if status == httpx.codes.NOT_FOUND:
            return ImageNotFound(f"{shown}: not there{said}", hint="check the name and the tag")
        return RegistryError(what)


def _shown(path: str) -> str:
    """How messages name what was asked for."""
    kind, _, target = path.partition("/")
    return f"{'blob' if kind == 'blobs' else 'image'} {short(target) if is_digest(target) else target}"
