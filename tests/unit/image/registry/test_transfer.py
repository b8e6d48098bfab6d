import contextlib
import hashlib
import io
import os
import socket
import threading
import time
from dataclasses import replace

import pytest

from propolis.errors import (
    BlobDamaged,
    DigestMismatch,
    ImageInvalid,
    ImageNotFound,
    RegistryError,
    RegistryUnreachable,
    StorageFull,
)
from propolis.image.manifest import OCI_LAYER, Layer
from propolis.image.partial import PartialBlob
from propolis.image.ranges import Ranges
from propolis.image.registry import transfer
from propolis.image.registry.client import RegistryClient
from propolis.image.registry.configuration import Origin
from propolis.image.registry.transfer import Download
from propolis.testing.registry import Fault, FaultKind, Registry

DATA = os.urandom(1_000_000)
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


def layer(size=1_000_000):
    return Layer(digest=DIGEST, size=size, media_type=OCI_LAYER, diff_id=DIGEST)


@pytest.fixture
def registry():
    with Registry() as registry:
        registry.put_blob(DATA)
        yield registry


@pytest.fixture
def download(registry, patience, store):
    """Start one, from this registry or others, into the store's partial blob."""

    def start(*registries, what=None, bounds=patience):
        clients = [
            RegistryClient(Origin(domain=found.address, repository="app"), lambda: None, bounds)
            for found in registries or (registry,)
        ]
        what = what or layer()
        return Download(clients, what, store.partial(what.digest), bounds)

    return start


def read(blob, limit=1 << 30):
    found = bytearray()
    buffer = bytearray(100_000)
    while len(found) < limit and (count := blob.readinto(buffer)):
        found += buffer[:count]
    return bytes(found)


def ranges(registry):
    return [request.headers.get("range") for request in registry.requests if "/blobs/" in request.path]


def left_over(store):
    return sorted(path.name for path in store.path(DIGEST).parent.glob("*"))


def leave(store, *parts):
    """As an earlier run: bytes at their places."""
    partial = store.partial(DIGEST)
    for position, data in parts:
        partial.write(position, data)
        partial.note(position, position + len(data))
        partial.ranges.add(position, position + len(data))
    partial.close()


def test_a_blob_comes_as_it_is_and_is_kept(registry, download, store):
    with download() as blob:
        assert read(blob) == DATA
    assert ranges(registry) == [None]
    assert left_over(store) == [DIGEST[7:]]
    assert store.path(DIGEST).read_bytes() == DATA


def test_what_its_reader_refuses_is_not_kept(download, store):
    def refuse(blob):
        read(blob)
        raise DigestMismatch("no")

    with pytest.raises(DigestMismatch, match="no"), download() as blob:
        refuse(blob)
    assert left_over(store) == []


@pytest.mark.parametrize("kind", [FaultKind.CUT, FaultKind.STALL, FaultKind.DRIP])
def test_it_goes_on_where_it_broke_off(registry, download, patience, soon, kind, slept):
    registry.arm(Fault(kind=kind, request="/blobs/", after=300_000, times=3))
    with download(bounds=patience if kind is FaultKind.CUT else soon) as blob:
        assert read(blob) == DATA
    begun = [int(text.removeprefix("bytes=").partition("-")[0]) for text in ranges(registry)[1:]]
    if kind is not FaultKind.DRIP:
        assert begun == [300_000, 600_000, 900_000]
    assert len(slept) == 3
    assert registry.requests[-1].headers["if-range"] == f'"{DIGEST}"'


def test_it_goes_on_in_the_next_run(registry, download, soon, store):
    registry.arm(Fault(kind=FaultKind.STALL, request="/blobs/", after=400_000))
    with download(bounds=soon) as blob:
        read(blob, 400_000)
    assert left_over(store) == [f".partial-{DIGEST[7:]}", f".partial-{DIGEST[7:]}.ranges"]
    with download() as blob:
        assert read(blob) == DATA
    begun = int(ranges(registry)[-1].removeprefix("bytes=").partition("-")[0])
    assert 400_000 <= begun < len(DATA)
    assert left_over(store) == [DIGEST[7:]]


def test_only_what_is_missing_is_fetched(registry, download, store):
    leave(store, (0, DATA[:1000]), (500_000, DATA[500_000:600_000]), (999_000, DATA[999_000:]))
    with download() as blob:
        assert read(blob) == DATA
    assert ranges(registry) == ["bytes=1000-499999", "bytes=600000-998999"]


def test_what_is_there_whole_is_not_fetched_again(registry, download, store):
    leave(store, (0, DATA))
    with download() as blob:
        assert read(blob) == DATA
    assert registry.requests == []


@pytest.mark.parametrize("left", [b"wrong" * 1000, DATA[:-1] + b"\0"])
def test_what_does_not_fit_is_thrown_away(registry, download, store, left):
    def refuse(blob):
        if read(blob) != DATA:
            raise DigestMismatch("no")

    leave(store, (0, left))
    with pytest.raises(BlobDamaged, match="an interrupted pull") as caught, download() as blob:
        refuse(blob)
    assert "try again" in caught.value.hint
    assert left_over(store) == []
    with download() as blob:
        refuse(blob)


def test_two_at_once_both_get_it(registry, download, store):
    with download() as first, download() as second:
        read(first, 100_000)
        assert read(second) == DATA
    with download() as third:
        assert read(third) == DATA
    assert left_over(store) == [DIGEST[7:]]


@pytest.fixture
def impatient(soon, monkeypatch):
    """Blobs deserve more connections at once, however small they are."""
    monkeypatch.setattr(transfer, "_LEAST", 100_000)
    return replace(soon, alone=0.0)


@pytest.fixture
def slow_download(registry, impatient, store):
    client = RegistryClient(Origin(domain=registry.address, repository="app"), lambda: None, impatient)
    return lambda: Download([client], layer(), store.partial(DIGEST), impatient)


def test_what_takes_long_comes_in_several_ranges_at_once(registry, slow_download, store):
    registry.arm(Fault(kind=FaultKind.STALL, request="/blobs/", after=200_000))
    with slow_download() as blob:
        assert read(blob) == DATA
    asked = [text for text in ranges(registry) if text]
    assert len(asked) >= 3
    assert store.path(DIGEST).read_bytes() == DATA


def test_nobody_writes_where_another_fetches(registry, slow_download, store, monkeypatch):
    written = Ranges()
    write = PartialBlob.write

    def watched(self, position, data):
        assert not any(start < position + len(data) and position < end for start, end in written), "twice"
        written.add(position, position + len(data))
        time.sleep(0.01)
        write(self, position, data)

    monkeypatch.setattr(PartialBlob, "write", watched)
    monkeypatch.setattr(transfer, "_LEAST", 300_000)  # more than a piece, as it really is
    with slow_download() as blob:
        assert read(blob) == DATA
    assert len([text for text in ranges(registry) if text]) >= 1
    assert list(written) == [(0, len(DATA))]


def test_a_range_that_fails_is_fetched_by_another(registry, slow_download, slept):
    registry.arm(Fault(kind=FaultKind.STALL, request="/blobs/", after=200_000))
    for status in (404, 403, 500):
        registry.arm(Fault(kind=FaultKind.STATUS, request="/blobs/", status=status))
    with slow_download() as blob:
        assert read(blob) == DATA


def test_more_are_not_begun_where_a_registry_sends_all_of_it_anyway(registry, slow_download):
    registry.arm(Fault(kind=FaultKind.STALL, request="/blobs/", after=200_000))
    registry.arm(Fault(kind=FaultKind.NO_RANGES, request="/blobs/", times=0))
    with slow_download() as blob:
        assert read(blob) == DATA


def test_a_killed_pull_of_several_ranges_leaves_them_all(registry, slow_download, store):
    registry.arm(Fault(kind=FaultKind.STALL, request="/blobs/", after=200_000, times=0))
    with slow_download() as blob:
        read(blob, 200_000)
        deadline = time.monotonic() + 30
        while len(ranges(registry)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    registry.faults.clear()
    deadline = time.monotonic() + 30
    while (found := store.partial(DIGEST)).ranges.end_from(0) < 200_000 and time.monotonic() < deadline:
        found.close()
        time.sleep(0.05)
    assert len(list(found.ranges)) >= 1
    found.close()
    with slow_download() as blob:
        assert read(blob) == DATA


def test_a_server_without_ranges_is_skipped_through(registry, download):
    registry.arm(Fault(kind=FaultKind.CUT, request="/blobs/", after=500_000))
    registry.arm(Fault(kind=FaultKind.NO_RANGES, request="/blobs/"))
    with download() as blob:
        assert read(blob) == DATA


def test_another_part_than_asked_for_is_refused(registry, download):
    registry.arm(Fault(kind=FaultKind.CUT, request="/blobs/", after=500_000))
    wrong = {"Content-Range": f"bytes 0-9/{len(DATA)}"}
    registry.arm(Fault(kind=FaultKind.STATUS, request="/blobs/", status=206, body=DATA[:10], headers=wrong))
    with download() as blob, pytest.raises(RegistryError, match="another part"):
        read(blob)


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1, 0, 1 << 40])
def test_a_size_that_lies_is_found_out_before_the_body(registry, download, size):
    with download(what=layer(size=size)) as blob:
        if size:
            with pytest.raises(ImageInvalid, match=f"is not {size} bytes long"):
                read(blob)
        else:
            assert read(blob) == b"", "which the layer's digest does not name; unpacking says so"


def test_an_answer_that_never_ends_is_left(registry, download, store):
    registry.arm(Fault(kind=FaultKind.ENDLESS, request="/blobs/"))
    with download() as blob:
        assert read(blob) == DATA
    assert store.path(DIGEST).read_bytes() == DATA


@pytest.mark.parametrize(
    ("fault", "kind", "attempts"),
    [
        (Fault(kind=FaultKind.CUT, after=100, times=0), RegistryUnreachable, 5),
        (Fault(kind=FaultKind.DROP, request="/blobs/", times=0), RegistryUnreachable, 5),
        (Fault(kind=FaultKind.STATUS, status=503, times=0), RegistryError, 5),
        (Fault(kind=FaultKind.STATUS, status=404, times=0), ImageNotFound, 1),
    ],
)
def test_attempts_that_bring_nothing_are_counted(registry, download, fault, kind, attempts):
    registry.arm(fault)
    with download() as blob, pytest.raises(kind):
        read(blob)
    assert registry.count("/blobs/") == attempts


def test_attempts_that_bring_something_are_not(registry, download):
    registry.arm(Fault(kind=FaultKind.CUT, after=70_000, times=0))
    with download() as blob:
        assert read(blob) == DATA
    assert registry.count("/blobs/") == 15


@pytest.mark.parametrize("after", [0, 400_000])
def test_another_registry_takes_over_where_one_fails(registry, download, after):
    with Registry() as mirror:
        mirror.put_blob(DATA)
        mirror.arm(Fault(kind=FaultKind.CUT, request="/blobs/", after=after))
        mirror.arm(Fault(kind=FaultKind.STATUS, request="/blobs/", status=404, times=0))
        with download(mirror, registry) as blob:
            assert read(blob) == DATA
    assert ranges(registry) == [f"bytes={after}-{len(DATA) - 1}" if after else None]


def test_a_full_disk_is_told(registry, download, monkeypatch):
    import errno

    from propolis.image import partial

    class Full(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(partial.io, "FileIO", Full)
    with download() as blob, pytest.raises(StorageFull):
        read(blob)


def test_a_length_in_digits_of_another_kind_is_none(patience, store):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: \xb2\r\n\r\n" + DATA)

        threading.Thread(target=answer, daemon=True).start()
        origin = Origin(domain=f"127.0.0.1:{server.getsockname()[1]}", repository="app")
        clients = [RegistryClient(origin, lambda: None, patience)]
        with Download(clients, layer(), store.partial(DIGEST), patience) as blob:
            assert read(blob) == DATA
        with contextlib.suppress(OSError):  # Windows wakes the accept at close, and says that nothing is connected
            server.shutdown(socket.SHUT_RDWR)
