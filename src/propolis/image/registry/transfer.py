"""A layer's blob as a stream: what an interrupted pull left, then the network, as often as it breaks off.

What comes is also written to the partial blob, so that the next run need not fetch it again. Bytes are verified by
whoever unpacks them; only a blob whose beginning is from an earlier run is hashed here too, to know what to throw away.

One range after the other. Several at once would fill the same partial blob from several of `_Attempt`.
"""

import io
import re
import time
from collections.abc import Generator, Iterator, Sequence

from propolis.errors import DigestMismatch, ImageError, ImageInvalid, RegistryError, RegistryUnreachable
from propolis.image import digest as digests
from propolis.image.manifest import Layer
from propolis.image.partial import PartialBlob
from propolis.image.registry.client import RegistryClient
from propolis.image.registry.exchange import Answer
from propolis.image.registry.retry import Patience, Transient, pause

_PROGRESS = 64 << 10
"""Bytes after which an attempt was not in vain."""
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15}|\*)")
_PARTIAL_CONTENT = 206


class Download(io.RawIOBase):
    """The blob of one layer, to be read once from its start, by one thread at a time. Owns `partial`."""

    def __init__(
        self, clients: Sequence[RegistryClient], layer: Layer, partial: PartialBlob | None, patience: Patience
    ) -> None:
        """Nothing is fetched yet. `clients` are asked in order: the next one when one fails for good."""
        self._clients = list(clients)
        self._layer = layer
        self._partial = partial
        self._patience = patience
        self._kept = min(partial.size, layer.size) if partial is not None else 0
        self._hash = digests.hasher(layer.digest) if self._kept else None
        self._position = 0
        self._rest = memoryview(b"")
        self._etag = ""
        self._fetched = self._fetch()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill some of `buffer`.

        Raises:
            DigestMismatch: what an earlier run left does not fit; it is gone, and another try fetches all.
            ImageInvalid: the registry's blob is of another size.
            ImageNotFound, RegistryError: none of the registries has it, or lets us have it.
            StorageFull, DiskError: what comes cannot be kept.
        """
        view = memoryview(buffer).cast("B")
        if self._position < self._kept:
            assert self._partial is not None
            count = self._partial.read_into(self._position, view[: self._kept - self._position])
        else:
            if not self._rest:
                self._rest = memoryview(next(self._fetched, b""))
            count = min(len(view), len(self._rest))
            view[:count] = self._rest[:count]
            self._rest = self._rest[count:]
        self._position += count
        if self._hash is not None:
            self._hash.update(view[:count])
            if not count and self._position == self._layer.size:
                self._check_resumed()
        return count

    def close(self) -> None:
        """Break off what is under way. The partial blob stays if there is more to come, else it has served."""
        if not self.closed:
            self._fetched.close()
            if self._partial is not None:
                complete = self._position >= self._layer.size
                self._partial.discard() if complete else self._partial.close()
        super().close()

    def _check_resumed(self) -> None:
        assert self._hash is not None
        if self._hash.hexdigest() != self._layer.digest.partition(":")[2]:
            raise DigestMismatch(
                f"what an interrupted pull left of {self._layer} does not fit the rest, and was removed",
                hint="try again; all of it will be fetched",
            )

    def _fetch(self) -> Generator[bytes]:
        """What is missing, kept as it comes. Attempts that bring nothing are counted, and not many of them are made."""
        done, failed = self._kept, 0
        while done < self._layer.size:
            before = done
            try:
                for piece in self._attempt(self._clients[0], done):
                    done += len(piece)
                    if self._partial is not None:
                        self._partial.append(piece)
                    yield piece
                if done < self._layer.size:
                    raise Transient(
                        RegistryUnreachable(f"{self._clients[0].origin} ended {self._layer} after {done} bytes")
                    )
            except Transient as fault:
                failed = 1 if done - before >= _PROGRESS else failed + 1
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

    def _attempt(self, client: RegistryClient, start: int) -> Iterator[bytes]:
        headers = {}
        if start:
            headers["Range"] = f"bytes={start}-{self._layer.size - 1}"
            if self._etag:
                headers["If-Range"] = self._etag
        with client.opened("GET", f"blobs/{self._layer.digest}", headers) as answer:
            etag = answer.headers.get("etag", "")
            self._etag = etag if etag.startswith('"') and etag.isascii() and etag.isprintable() else ""
            skip = self._first(answer, start)
            yield from self._watched(answer, start, skip)

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
        if length.isdigit() and int(length[:20]) != self._layer.size:
            raise self._wrong_size()
        return start

    def _watched(self, answer: Answer, start: int, skip: int) -> Iterator[bytes]:
        """The answer without its first `skip` bytes and without what is too much; not for ever, however slow."""
        left = self._layer.size - start
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
            if len(wanted) > left:
                raise self._wrong_size()
            left -= len(wanted)
            if wanted:
                yield wanted

    def _where(self) -> str:
        return f"{self._layer} of {self._clients[0].origin}"

    def _wrong_size(self) -> ImageInvalid:
        return ImageInvalid(
            f"{self._where()} is not {self._layer.size} bytes long, as its descriptor says",
            hint="the registry or the image is broken",
        )
