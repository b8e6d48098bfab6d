"""A part of a layer's blob from registries, as often as the connection breaks, from one after the other if need be.

Knows nothing of where the bytes go, nor of others that fetch other parts.
"""

import re
import time
from collections.abc import Generator, Iterator, Sequence

from propolis.errors import ImageError, ImageInvalid, RegistryError, RegistryUnreachable
from propolis.image.manifest import Layer
from propolis.image.ranges import Claim
from propolis.image.registry.client import RegistryClient
from propolis.image.registry.exchange import Answer
from propolis.image.registry.retry import Patience, Transient, pause

_PROGRESS = 64 << 10
"""Bytes after which an attempt was not in vain."""
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15}|\*)")
_PARTIAL_CONTENT = 206


class Fetching:
    """Fetches parts of one blob, one after the other."""

    def __init__(
        self, clients: Sequence[RegistryClient], layer: Layer, patience: Patience, *, may_skip: bool = True
    ) -> None:
        """`clients` are asked in order; `may_skip`: a registry may send the whole blob for a part of it."""
        self._clients = list(clients)
        self._layer = layer
        self._patience = patience
        self._may_skip = may_skip
        self._etag = ""
        self.ranges_work = False
        """Whether this registry is known to send parts."""

    def pieces(self, claim: Claim) -> Generator[bytes]:
        """The bytes from `claim.position` on, which whoever takes them moves on, to its end as it is then.

        Attempts that bring nothing are counted, and not many of them are made.

        Raises:
            ImageInvalid: the registry's blob is of another size.
            ImageNotFound, RegistryError: none of the registries has it, or lets us have it.
        """
        failed = 0
        while claim.position < claim.end:
            before = claim.position
            try:
                yield from self._attempt(self._clients[0], claim)
                if claim.position < claim.end:
                    raise Transient(
                        RegistryUnreachable(
                            f"{self._clients[0].origin} ended {self._layer} after {claim.position} bytes"
                        )
                    )
            except Transient as fault:
                failed = 1 if claim.position - before >= _PROGRESS else failed + 1
                try:
                    pause(self._patience, fault, failed)
                except RegistryError as error:
                    self._next_client(error)
                    failed = 0
            except ImageError as error:
                self._next_client(error)
                failed = 0

    def _next_client(self, error: ImageError) -> None:
        """Go on with the next registry; raises the fault of this one if it was the last."""
        if len(self._clients) == 1:
            raise error
        self._clients.pop(0)
        self._etag = ""
        self.ranges_work = False

    def _attempt(self, client: RegistryClient, claim: Claim) -> Iterator[bytes]:
        headers = {}
        if claim.position or claim.end < self._layer.size:
            headers["Range"] = f"bytes={claim.position}-{claim.end - 1}"
            if self._etag:
                headers["If-Range"] = self._etag
        start, end = claim.position, claim.end
        with client.opened("GET", f"blobs/{self._layer.digest}", headers) as answer:
            etag = answer.headers.get("etag", "")
            self._etag = etag if etag.startswith('"') and etag.isascii() and etag.isprintable() else ""
            self.ranges_work = (
                answer.status == _PARTIAL_CONTENT or answer.headers.get("accept-ranges", "").strip() == "bytes"
            )
            skip = self._first(answer, start)
            # what is sent of a blob in whole goes on to its end
            most = (end if answer.status == _PARTIAL_CONTENT else self._layer.size) - start
            yield from self._watched(answer, claim, skip, most)

    def _first(self, answer: Answer, start: int) -> int:
        """How many bytes at the beginning of the answer we have already; sees that it is about the right blob."""
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise RegistryError(f"{self._where()} is sent compressed once more, which was not asked for")
        if answer.status == _PARTIAL_CONTENT:
            found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
            if found is None or int(found[1]) != start:
                raise RegistryError(f"{self._where()}: the registry sends another part than was asked for")
            if found[3] not in ("*", str(self._layer.size)):
                raise self._wrong_size()
            return 0
        length = answer.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) != self._layer.size:
            raise self._wrong_size()
        if start and not self._may_skip:
            raise RegistryError(f"{self._where()}: the registry sends all of it, whatever part is asked for")
        return start

    def _watched(self, answer: Answer, claim: Claim, skip: int, left: int) -> Iterator[bytes]:
        """The answer without its first `skip` bytes and what follows `left` more; not for ever, however slow.

        Read to its end where there is no more to it, so that its connection can be used again.
        """
        until, grown = time.monotonic() + self._patience.window, 0
        for piece in answer.pieces():
            grown += len(piece)
            now = time.monotonic()
            if now >= until:
                if grown < self._patience.window_bytes:
                    raise Transient(RegistryUnreachable(f"{self._where()} comes too slowly", hint="try again later"))
                until, grown = now + self._patience.window, 0
            wanted = piece[skip:]
            skip -= len(piece) - len(wanted)
            if not wanted:
                continue
            if not left:
                return  # what else is sent is not of this blob: its digest says so
            yield wanted[:left]
            left -= min(left, len(wanted))
            if left and claim.position >= claim.end:
                return  # another has taken the rest over

    def _where(self) -> str:
        return f"{self._layer} of {self._clients[0].origin}"

    def _wrong_size(self) -> ImageInvalid:
        return ImageInvalid(
            f"{self._where()} is not {self._layer.size} bytes long, as its descriptor says",
            hint="the registry or the image is broken",
        )
