"""Images of engines, and whatever engines may do wrong, with one on a unix socket."""

import hashlib
import io
import itertools
import json
import os
import pty
import socket
import ssl
import tarfile
import threading
import time
import tty

import pytest
import trustme

from daemons import FakeEngine, Held, answer, chunked
from propolis.errors import (
    DaemonError,
    DigestMismatch,
    ImageError,
    ImageInvalid,
    ImageNotFound,
    InvalidArgument,
    PlatformMismatch,
)
from propolis.image.daemon.address import Address, Kind
from propolis.image.daemon.engine import Bounds, Engine
from propolis.image.daemon.source import DaemonSource
from propolis.image.layers import unpack
from propolis.image.platforms import parse_platform
from propolis.image.store import BlobStore
from propolis.testing.images import layer_tar, write_layout
from propolis.testing.trees import MemorySink

AMD64 = parse_platform("linux/amd64")
PLATFORM = {"Os": "linux", "Architecture": "amd64"}
SOON = Bounds(connect=1, document=0.3, prepare=0.5, silence=0.3, piece=0.6, size=1 << 20)
LATER = Bounds(connect=60, document=60, prepare=60, silence=60, piece=60, size=1 << 20)
"""Where nothing is waited for in vain."""


def saved(content=b"1", architecture="amd64"):
    """ID and archive of an image as docker save writes it."""
    layer = layer_tar({"a": content, "b": bytes(30_000)})
    document = {
        "os": "linux",
        "architecture": architecture,
        "config": {"Cmd": ["/a"]},
        "rootfs": {"diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    }
    config = json.dumps(document).encode()
    image_id = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{image_id}.json", "RepoTags": None, "Layers": ["x/layer.tar"]}]
    files = {"x/layer.tar": layer, f"{image_id}.json": config, "manifest.json": json.dumps(manifest).encode()}
    return f"sha256:{image_id}", tar_of(files)


def tar_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


ID, ARCHIVE = saved()
OTHER_ID, OTHER_ARCHIVE = saved(b"2")


@pytest.fixture
def engine(tmp_path):
    with FakeEngine(tmp_path / "s", {"app:latest": Held(ID, ARCHIVE, PLATFORM)}) as engine:
        yield engine


@pytest.fixture
def store(tmp_path):
    return BlobStore(tmp_path / "blobs")


def source(engine, store, bounds=LATER):
    return DaemonSource(store, engines=[Engine(Address(kind=Kind.UNIX, path=str(engine.place)), bounds)])


def content(source, found):
    sink = MemorySink()
    (layer,) = found.layers
    with source.open_layer(layer) as blob:
        unpack(blob, layer, sink)
    return bytes(sink.contents[b"a"])


def is_clean(store):
    return not store.spool.exists() or not list(store.spool.iterdir())


@pytest.mark.parametrize(("name", "digest"), [("app", ""), ("app:latest", ""), ("", ID), ("app:latest", ID)])
def test_an_image_is_found_by_name_and_by_id(engine, store, name, digest):
    daemon = source(engine, store)
    found = daemon.find(name, digest, AMD64)
    assert (found.digest, found.config.cmd) == (ID, ("/a",))
    assert content(daemon, found) == b"1"
    daemon.close()
    assert is_clean(store)


def test_what_is_known_is_not_exported_again(engine, store):
    first = source(engine, store)
    known = first.find("app", "", AMD64)
    first.close()
    engine.asked.clear()
    again = source(engine, store)
    assert again.find("app", "", AMD64) == known
    assert engine.asked == ["/images/app:latest/json"]
    assert content(again, known) == b"1"  # its disk was lost
    assert engine.asked[1:] == [f"/images/{ID}/get"]
    again.close()
    assert is_clean(store)


def test_four_layers_at_once_export_once(engine, store):
    first = source(engine, store)
    found = first.find("app", "", AMD64)
    first.close()
    engine.asked.clear()
    again = source(engine, store)
    again.find("app", "", AMD64)
    threads = [threading.Thread(target=content, args=(again, found)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(engine.asked) == 2
    again.close()


@pytest.mark.parametrize("lost", ["sha256", "daemons"])
def test_what_was_lost_of_the_store_is_exported_again(engine, store, lost):
    first = source(engine, store)
    known = first.find("app", "", AMD64)
    first.close()
    for path in (store.daemons.parent / lost).iterdir():
        path.unlink()
    again = source(engine, store)
    assert again.find("app", "", AMD64) == known
    again.close()


def test_a_name_that_was_given_to_another_image_is_that_one(engine, store):
    source(engine, store).find("app", "", AMD64)
    engine.images["app:latest"] = Held(OTHER_ID, OTHER_ARCHIVE, PLATFORM)
    daemon = source(engine, store)
    assert content(daemon, daemon.find("app", "", AMD64)) == b"2"


def test_what_podman_built_is_found_under_its_short_name(engine, store):
    engine.images["localhost/mine:dev"] = Held(ID, ARCHIVE, PLATFORM)
    assert source(engine, store).find("mine:dev", "", AMD64).digest == ID
    with pytest.raises(ImageNotFound):
        source(engine, store).find("example.org/mine:dev", "", AMD64)


def test_where_the_id_is_that_of_a_manifest_the_archive_is_a_layout(engine, store, tmp_path):
    digest = write_layout(tmp_path / "layout", [{"a": b"3"}], config={"Cmd": ["/a"]})
    files = {
        str(path.relative_to(tmp_path / "layout")): path.read_bytes()
        for path in (tmp_path / "layout").rglob("*")
        if path.is_file()
    }
    engine.images["app:latest"] = Held(digest, tar_of(files | {"manifest.json": b"[]"}), PLATFORM)
    for _ in range(2):
        daemon = source(engine, store)
        found = daemon.find("app", "", AMD64)
        assert found.digest == digest
    assert len(engine.asked) == 3
    assert content(daemon, found) == b"3"
    daemon.close()
    assert is_clean(store)


def test_another_platform_is_refused_without_an_export(engine, store):
    with pytest.raises(PlatformMismatch, match="is for linux/amd64, not for linux/arm64"):
        source(engine, store).find("app", "", parse_platform("arm64"))
    assert len(engine.asked) == 1


def test_the_first_engine_that_has_it_gives_it(engine, store, tmp_path):
    with FakeEngine(tmp_path / "t", {}) as without:
        engines = [
            Engine(Address(kind=Kind.UNIX, path=str(place)), SOON)
            for place in (tmp_path / "no", without.place, engine.place)
        ]
        assert DaemonSource(store, engines=engines).find("app", "", AMD64).digest == ID
        with pytest.raises(DaemonError, match="no container engine listens") as caught:
            DaemonSource(store, engines=engines[:2]).find("app", "", AMD64)
        assert "does not have it" in caught.value.hint


def sends(data, *, json=True, export=True, then=None):
    def fault(connection, exports):
        if not (export if exports else json):
            return False
        connection.sendall(data)
        if then:
            then(connection)
        return True

    fault.is_waited_for = then not in (None, for_ever)
    return fault


def for_ever(connection):
    for _ in itertools.count():
        connection.sendall(b"%x\r\n%b\r\n" % (1 << 16, bytes(1 << 16)))


def trickling(connection):
    for _ in itertools.count():
        connection.sendall(b"x: y\r\n")
        time.sleep(0.05)


def counting(connection):
    """The size of a chunk, which has no end."""
    for _ in itertools.count():
        connection.sendall(b"1")
        time.sleep(0.05)


def silent(connection):
    connection.recv(1)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
TOLD = {"Id": ID, **PLATFORM}


def told(**changes):
    return answer(json.dumps({name: value for name, value in (TOLD | changes).items() if value is not None}).encode())


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (sends(b""), DaemonError, "does not answer as one"),
        (sends(b"SSH-2.0-x\r\n"), DaemonError, "does not answer as one"),
        (sends(b"", then=silent), DaemonError, "does not answer in time"),
        (sends(OK, then=trickling), DaemonError, "does not answer"),
        (sends(b'HTTP/1.1 500 X\r\n\r\n{"message": "disk \x1b[2J full"}'), DaemonError, "answers 500"),
        (sends(b"HTTP/1.1 301 X\r\nLocation: http://elsewhere/\r\n\r\n"), DaemonError, "answers 301"),
        (sends(CHUNKED, then=for_ever), DaemonError, "more than 4 MiB"),
        (sends(OK + b"Content-Length: 99\r\n\r\n{"), DaemonError, "broke off"),
        (sends(CHUNKED + b"5\r\n{"), DaemonError, "broke off"),
        (sends(CHUNKED + b"zz\r\n{"), DaemonError, "broke off"),
        (sends(CHUNKED + b"5\r\n{", then=silent), DaemonError, "does not answer in time"),
        (sends(answer(b"")), ImageInvalid, "is not JSON"),
        (sends(answer(b"[]")), ImageInvalid, "not a JSON object"),
        (sends(told(Id=None)), ImageInvalid, "Id is missing"),
        (sends(told(Id="sha256:../../x")), ImageInvalid, "no digest"),
        (sends(told(Os=7)), ImageInvalid, "Os is not a string"),
        (sends(answer(b"", 404)), ImageNotFound, "does not have it"),
        # what follows is about the archive
        (sends(answer(b'{"message": "No such image"}', 404), json=False), ImageNotFound, "No such image"),
        (sends(answer(b"{}", 500), json=False), DaemonError, "answers 500"),
        (sends(b"", json=False, then=silent), DaemonError, "does not answer in time"),
        (sends(chunked(ARCHIVE, cut=20_000), json=False), DaemonError, "broke off"),
        (sends(chunked(ARCHIVE, cut=20_000), json=False, then=silent), DaemonError, "does not answer in time"),
        (sends(CHUNKED + b"3\r\nabc\r\n", json=False, then=counting), DaemonError, "broke off"),
        (sends(OK + b"Content-Length: 99999\r\n\r\n" + ARCHIVE[:5000], json=False), DaemonError, "broke off"),
        (sends(OK + b"\r\n" + ARCHIVE[:20_000], json=False), ImageInvalid, "truncated"),
        (sends(CHUNKED, json=False, then=for_ever), ImageInvalid, "larger than 1 MiB"),
        (sends(answer(b""), json=False), ImageInvalid, "is empty"),
        (sends(answer(b"no tar" * 1000), json=False), ImageInvalid, "not a tar"),
        (sends(answer(tar_of({"a": b""})), json=False), ImageInvalid, "without an image in it"),
        (sends(chunked(OTHER_ARCHIVE), json=False), DigestMismatch, f"which it calls {ID[:19]}"),
        (sends(told(Id=OTHER_ID), export=False), ImageNotFound, "does not have it"),
    ],
)
def test_every_fault_of_an_engine(engine, store, fault, kind, message):
    engine.fault = fault
    began = time.monotonic()
    bounds = SOON if fault.is_waited_for else LATER
    with pytest.raises(kind, match=message) as caught:
        source(engine, store, bounds).find("app", "", AMD64)
    assert type(caught.value) is kind
    assert str(caught.value).isprintable()
    assert time.monotonic() - began < 50
    assert is_clean(store)
    engine.fault = lambda *_: False
    assert source(engine, store).find("app", "", AMD64).digest == ID


def test_an_archive_that_is_cut_in_every_place_is_none(engine, store):
    for cut in range(0, ARCHIVE.index(b'"RepoTags"'), 1700):
        engine.fault = sends(answer(ARCHIVE[:cut]), json=False)
        with pytest.raises(ImageError):
            source(engine, store).find("app", "", AMD64)
        assert is_clean(store)


def test_an_export_that_is_given_up_leaves_nothing(engine, store):
    class Impatient:
        def begin(self, *_):
            pass

        def advance(self, *_):
            raise KeyboardInterrupt

    daemon = DaemonSource(store, Impatient(), [Engine(Address(kind=Kind.UNIX, path=str(engine.place)))])
    with pytest.raises(KeyboardInterrupt):
        daemon.find("app", "", AMD64)
    assert is_clean(store)


def test_nobody_listens(tmp_path, store):
    place = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        for path in (place, tmp_path / "none"):
            with pytest.raises(DaemonError, match="no container engine listens at unix://"):
                Engine(Address(kind=Kind.UNIX, path=str(path))).inspect("x")
    (tmp_path / "file").write_text("")
    with pytest.raises(DaemonError):
        Engine(Address(kind=Kind.UNIX, path=str(tmp_path / "file"))).inspect("x")
    with pytest.raises(DaemonError, match="cannot be asked"):
        Engine(Address(kind=Kind.UNIX, path="/" + "x" * 200)).inspect("x")
    with pytest.raises(DaemonError, match="no container engine listens on this host"):
        DaemonSource(store, engines=[]).find("x", "", AMD64)


def test_a_refusal_of_the_system_says_what_to_do(engine, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("propolis.image.daemon.engine._connected", refused)
    with pytest.raises(DaemonError, match="may not be asked by this user") as caught:
        Engine(Address(kind=Kind.UNIX, path=str(engine.place))).inspect("x")
    assert "group" in caught.value.hint


@pytest.fixture
def secured(tmp_path):
    """The port of an engine that wants a certificate of its own CA; and the directory with ours."""
    ca, directory = trustme.CA(), tmp_path / "certs"
    directory.mkdir()
    ca.cert_pem.write_to_path(directory / "ca.pem")
    ours = ca.issue_cert("us@example.org")
    ours.private_key_pem.write_to_path(directory / "key.pem")
    ours.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                with plain:
                    try:
                        with context.wrap_socket(plain, server_side=True) as stream:
                            stream.recv(4096)
                            stream.sendall(told())
                    except OSError:
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], directory
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_tcp_with_tls_proves_both_sides(secured):
    port, directory = secured
    told = Engine(Address(kind=Kind.TCP, path="127.0.0.1", port=port, certificates=directory)).inspect("x")
    assert json.loads(told)["Id"] == ID


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda directory: (directory / "cert.pem").unlink(),
            "does not trust us|broke|cannot be asked|not answer as one",
        ),
        (lambda directory: (directory / "ca.pem").unlink(), "certificates in"),
        (lambda directory: (directory / "key.pem").write_text("x"), "certificates in"),
        (lambda directory: trustme.CA().cert_pem.write_to_path(directory / "ca.pem"), "cannot be trusted"),
    ],
)
def test_tls_that_does_not_fit_says_so(secured, change, message):
    port, directory = secured
    change(directory)
    with pytest.raises(DaemonError, match=message):
        Engine(Address(kind=Kind.TCP, path="127.0.0.1", port=port, certificates=directory)).inspect("x")


def test_a_pipe_is_a_file_with_two_ways():
    """A terminal in raw mode is one, too."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    place = os.ttyname(theirs)

    def serve(data):
        os.read(ours, 4096)
        os.write(ours, data)

    engine = Engine(Address(kind=Kind.PIPE, path=place), LATER)
    thread = threading.Thread(target=serve, args=(told(),))
    thread.start()
    assert json.loads(engine.inspect("x"))["Id"] == ID
    thread.join()
    thread = threading.Thread(target=serve, args=(CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",))
    thread.start()
    assert b"".join(map(bytes, engine.export("x"))) == b"abc"
    thread.join()
    with pytest.raises(DaemonError, match="does not answer in time"):
        Engine(Address(kind=Kind.PIPE, path=place), SOON).inspect("x")
    os.close(ours)
    os.close(theirs)


def test_the_environment_is_what_is_asked(engine, store, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{engine.place}")
    assert DaemonSource(store).find("app", "", AMD64).digest == ID
    monkeypatch.setenv("DOCKER_HOST", "ssh://host")
    with pytest.raises(InvalidArgument, match="ssh"):
        DaemonSource(store).find("app", "", AMD64)
