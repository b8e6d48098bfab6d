"""A layer's blob as a stream: what an interrupted pull left, then the network, as often as it breaks off.

What comes goes to a partial blob and is read from there, so that fetching runs ahead of unpacking, and the next run
need not fetch it again. Where that takes long and the registry allows it, several ranges are fetched at once. Bytes are
verified by whoever unpacks them; once they have been, the partial blob becomes the blob.
"""

import contextlib
import io
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from propolis.errors import BlobDamaged, DigestMismatch, DiskError, RegistryError
from propolis.image.manifest import Layer
from propolis.image.partial import PartialBlob
from propolis.image.ranges import Claim, Claims
from propolis.image.registry.client import RegistryClient
from propolis.image.registry.fetching import Fetching
from propolis.image.registry.retry import Patience

_LANES = 4
"""Ranges that are fetched at once; those of all layers under way share the connections of `exchange`."""
_LEAST = 8 << 20
"""Bytes for which another connection is worth its while."""
_NOTED = 1 << 20
"""Bytes of a lane that may be fetched in vain when the process is killed."""
_LEAVING = 2.0
"""Seconds that a connection which is not needed any more is waited for."""


class Download(io.RawIOBase):
    """The blob of one layer, to be read once from its start, by one thread at a time. Owns `partial`.

    As a context manager: left without an exception after the last byte, the blob counts as verified and is kept; left
    with DigestMismatch, what there is of it is thrown away; else it is there for the next try.
    """

    def __init__(
        self, clients: Sequence[RegistryClient], layer: Layer, partial: PartialBlob, patience: Patience
    ) -> None:
        """Begin to fetch. `clients` are asked in order: the next one when one fails for good."""
        self._clients = clients
        self._layer = layer
        self._partial = partial
        self._patience = patience
        self._here = partial.ranges
        self._had_some = bool(self._here)
        self._claims = Claims(layer.size, self._here, _LEAST)
        self._position = 0
        self._wanted = 0
        """Up to where the reader waits for bytes."""
        self._changed = threading.Condition()
        self._lanes: list[threading.Thread] = []
        self._widened = time.monotonic()
        self._fault: BaseException | None = None
        self._is_left = self._is_verified = self._is_wrong = False
        if next(self._here.gaps(layer.size), None):
            self._add_lane()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill `buffer`, or what is left of the blob.

        Raises:
            ImageInvalid: the registry's blob is of another size.
            ImageNotFound, RegistryError: none of the registries has it, or lets us have it.
            StorageFull, DiskError: what comes cannot be kept.
        """
        view = memoryview(buffer).cast("B")
        until = min(self._position + len(view), self._layer.size)
        with self._changed:
            self._wanted = until
            while (end := self._here.end_from(self._position)) < until and self._fault is None:
                self._changed.wait()
        if end == self._position < until:
            assert self._fault is not None
            raise self._fault
        count = self._partial.read_into(self._position, view[: min(end, until) - self._position])
        self._position += count
        return count

    def close(self) -> None:
        """Break off what is under way."""
        if not self.closed:
            with self._changed:
                self._is_left = True
                lanes = list(self._lanes)
            for lane in lanes:
                lane.join(_LEAVING)
            if not lanes:
                self._settle()
        super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_verified = error is None and self._position == self._layer.size
        self._is_wrong = isinstance(error, DigestMismatch)
        self.close()
        if self._is_wrong and self._had_some:
            raise BlobDamaged(
                f"what an interrupted pull left of {self._layer} does not fit the rest, and was removed",
                hint="try again; all of it will be fetched",
            ) from error

    def _settle(self) -> None:
        """Nobody reads or writes any more."""
        if self._is_verified:
            self._partial.keep(self._layer.size)
        elif self._is_wrong:
            self._partial.discard()
        else:
            self._partial.close()

    def _add_lane(self) -> None:
        with self._changed:
            if self._is_left:
                return
            thread = threading.Thread(target=self._fetch, args=(not self._lanes,), name="propolis-fetch", daemon=True)
            self._lanes.append(thread)
            self._widened = time.monotonic()
            thread.start()

    def _fetch(self, is_first: bool) -> None:
        """Fetch what nobody else does until there is nothing left. Faults of all lanes but the first end just these."""
        fetching = Fetching(self._clients, self._layer, self._patience, may_skip=is_first)
        try:
            while (claim := self._claimed(is_first)) is not None:
                try:
                    self._fetch_claim(fetching, claim)
                finally:
                    with self._changed:
                        self._claims.give_back(claim)
        except BaseException as error:  # noqa: BLE001 - it belongs to who reads
            if is_first:
                self._fault = error
        with self._changed:
            self._lanes.remove(threading.current_thread())
            if not self._lanes and self._fault is None and next(self._here.gaps(self._layer.size), None):
                self._fault = RegistryError(f"{self._layer} did not come whole", hint="try again")
            self._changed.notify_all()
            is_last = self._is_left and not self._lanes
        if is_last:
            with contextlib.suppress(DiskError):  # which nobody waits for
                self._settle()

    def _claimed(self, is_first: bool) -> Claim | None:
        """Something to fetch. The first lane stays as long as another may fail and leave something to it."""
        with self._changed:
            while not self._is_left:
                claim = self._claims.take()
                if claim is not None or not is_first or len(self._lanes) == 1:
                    return claim
                self._changed.wait()
            return None

    def _fetch_claim(self, fetching: Fetching, claim: Claim) -> None:
        noted = claim.position
        with contextlib.closing(fetching.pieces(claim)) as pieces:
            try:
                for piece in pieces:
                    # behind the end are another's bytes, which may have been read and verified meanwhile; the end only
                    # ever comes nearer where that is much farther than one piece
                    mine = memoryview(piece)[: claim.end - claim.position]
                    self._partial.write(claim.position, mine)
                    if self._took(claim, len(mine)):
                        return
                    if self._is_slow(fetching):
                        self._add_lane()
                    if claim.position - noted >= _NOTED:
                        self._partial.note(noted, claim.position)
                        noted = claim.position
            finally:
                with contextlib.suppress(DiskError):  # no room for the line either; what it would tell is fetched again
                    self._partial.note(noted, claim.position)

    def _took(self, claim: Claim, count: int) -> bool:
        """So many bytes more are there; returns whether nobody wants them any more."""
        with self._changed:
            start = claim.position
            claim.position += count
            self._here.add(start, claim.position)
            if claim.position >= self._wanted:
                self._changed.notify_all()
            return self._is_left

    def _is_slow(self, fetching: Fetching) -> bool:
        """Whether it takes so long that another connection may help."""
        return (
            fetching.ranges_work
            and len(self._lanes) < _LANES
            and time.monotonic() - self._widened > self._patience.alone
        )
