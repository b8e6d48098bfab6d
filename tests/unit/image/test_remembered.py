"""Compressed archives that are opened again: what is remembered of them, and when it is not believed."""

import gzip
import io
import json
import os
import tarfile
import time

import pytest

from propolis.errors import DiskError, ImageInvalid, PropolisError, SignatureRejected
from propolis.image import archive_records, digest, file_state, tar_files
from propolis.image.layers import unpack
from propolis.image.opening import open_image
from propolis.image.platforms import parse_platform
from propolis.image.store import BlobStore
from propolis.spec import Architecture
from propolis.testing.images import layer_tar, write_index, write_layout
from propolis.testing.trees import MemorySink

TREES = {"one": {"a": b"1" * 5000}, "two": {"a": b"2" * 5000}}
AMD64, ARM64 = parse_platform("amd64"), parse_platform("arm64")


@pytest.fixture
def store(tmp_path):
    return BlobStore(tmp_path / "blobs")


@pytest.fixture(autouse=True)
def old(monkeypatch):
    """What was just written counts as old: nobody can set the time of a change of a file's attributes."""
    monkeypatch.setattr(file_state, "_SETTLED", -(10**12))


@pytest.fixture
def reads(monkeypatch):
    """The archives that are uncompressed as a whole."""
    found = []
    real = tar_files.spooled
    monkeypatch.setattr(tar_files, "spooled", lambda path, *rest: found.append(path) or real(path, *rest))
    return found


def layout(path, *, platforms=()):
    """A compressed archive of an OCI layout with two images, or with one for several platforms."""
    directory = path.with_suffix(".layout")
    if platforms:
        digests = {
            each: write_layout(directory, [{"a": each.encode()}], tag=None, architecture=each) for each in platforms
        }
        write_index(directory, digests)
    else:
        for name, tree in TREES.items():
            write_layout(directory, [tree, {"b": b""}], tag=name)
    files = {
        item.relative_to(directory).as_posix(): item.read_bytes() for item in directory.rglob("*") if item.is_file()
    }
    return packed(path, files)


def docker(path):
    """One as `docker save` makes it, with two images."""
    files, listed = {}, []
    for name, tree in TREES.items():
        tars = [layer_tar(tree), gzip.compress(layer_tar({"b": b""}), mtime=0)]
        diff_ids = [digest.of(tars[0]), digest.of(layer_tar({"b": b""}))]
        config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": diff_ids}}).encode()
        names = [f"{diff_id[7:]}.tar" for diff_id in diff_ids]
        files |= dict(zip(names, tars, strict=True)) | {f"{digest.of(config)[7:]}.json": config}
        listed.append({"Config": f"{digest.of(config)[7:]}.json", "RepoTags": [f"x:{name}"], "Layers": names})
    return packed(path, files | {"manifest.json": json.dumps(listed).encode()})


def packed(path, files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    path.write_bytes(gzip.compress(buffer.getvalue(), mtime=0))
    return path


KINDS = pytest.mark.parametrize(("make", "transport"), [(layout, "oci-archive"), (docker, "docker-archive")])


def outcome(text, store, wanted=AMD64, **options):
    """What comes of opening an image: all that is known of it and what is in it, or the error."""
    try:
        with open_image(str(text), wanted, store, **options) as image:
            return image, *(content(image, layer) for layer in image.layers)
    except PropolisError as error:
        return type(error), str(error), error.hint


def content(image, layer):
    sink = MemorySink()
    with image.open_layer(layer) as blob:
        unpack(blob, layer, sink)
    return dict(sink.contents)


def opened(text, store, wanted=AMD64):
    with open_image(str(text), wanted, store) as image:
        return image


@KINDS
def test_an_archive_is_uncompressed_once_until_it_changes(tmp_path, store, reads, monkeypatch, make, transport):
    path = make(tmp_path / "x")
    first = opened(f"{path}:one", store)
    assert [opened(text, store) for text in (f"{path}:one", f"{transport}:{path}:one")] == [first, first]
    assert reads == [path]
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    (tmp_path / "other").mkdir()
    monkeypatch.setitem(TREES, "one", {"a": b"3" * 5000})
    other = make(tmp_path / "other/x")
    os.utime(other, ns=times)
    other.replace(path)
    assert opened(f"{path}:one", store).digest != first.digest
    assert reads == [path, path]


@KINDS
@pytest.mark.parametrize(
    "name", ["", ":one", ":two", ":three", "@sha256:" + "0" * 64, ":one@sha256:" + "0" * 64, "@ONE", ":two@ONE"]
)
@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("wanted", [AMD64, ARM64, parse_platform("linux/amd64/v3")])
def test_what_is_remembered_changes_no_answer(tmp_path, store, make, transport, name, bare, wanted):
    path = make(tmp_path / "x")
    one = opened(f"{transport}:{path}:one", store).digest
    opened(f"{transport}:{path}:two", store)
    text = ("" if bare else f"{transport}:") + str(path) + name.replace("ONE", one)
    expected = outcome(text, BlobStore(tmp_path / "empty"), wanted)
    for _ in range(2):
        assert outcome(text, store, wanted) == expected
    assert not list(store.spool.glob("*"))


def test_another_platform_is_looked_for_in_the_archive_and_then_remembered_too(tmp_path, store, reads):
    path = layout(tmp_path / "x", platforms=list(Architecture))
    found = [opened(path, store, wanted).digest for _ in range(2) for wanted in (AMD64, ARM64)]
    assert found[:2] == found[2:]
    assert found[0] != found[1]
    assert len(reads) == 2
    store.path(found[0]).unlink()  # as a collection may
    assert opened(path, store).digest == found[0]
    assert store.has(found[0])
    assert len(reads) == 2


def test_what_does_not_begin_like_an_image_is_one_only_by_name(tmp_path, store, reads):
    """A bare path has to begin like one, whatever is remembered of it."""
    files = {"0": b"not an image's"}
    with tarfile.open(docker(tmp_path / "y")) as tar:
        files |= {member.name: tar.extractfile(member).read() for member in tar}
    path = packed(tmp_path / "x", files)
    for _ in range(2):
        assert opened(f"docker-archive:{path}:one", store).config.platform == AMD64
        assert outcome(f"{path}:one", store)[0] is ImageInvalid
    assert reads == [path]


def test_a_wrong_transport_stays_wrong(tmp_path, store):
    path = docker(tmp_path / "x")
    opened(f"{path}:one", store)
    text = f"oci-archive:{path}:one"
    assert outcome(text, store) == outcome(text, BlobStore(tmp_path / "empty"))
    assert outcome(text, store)[0].__name__ == "ImageNotFound"


@KINDS
def test_a_policy_is_asked_each_time(tmp_path, store, reads, make, transport):
    path = make(tmp_path / "x")
    policy = tmp_path / "policy.json"

    def allow(kind):
        rule = {str(tmp_path.resolve()): [{"type": kind}]}
        policy.write_text(json.dumps({"default": [{"type": "reject"}], "transports": {transport: rule}}))

    allow("reject")
    text = f"{transport}:{path}:one"
    assert outcome(text, store, signature_policy=policy)[0] is SignatureRejected
    assert not store.archives.exists()
    allow("insecureAcceptAnything")
    for _ in range(2):
        with open_image(text, AMD64, store, signature_policy=policy):
            pass
    assert len(reads) == 2
    allow("reject")
    assert outcome(text, store, signature_policy=policy)[0] is SignatureRejected


def test_what_has_just_been_written_is_not_remembered(tmp_path, store, reads, monkeypatch):
    monkeypatch.setattr(file_state, "_SETTLED", 2_000_000_000)
    path = docker(tmp_path / "x")
    for _ in range(2):
        opened(f"{path}:one", store)
    assert len(reads) == 2
    assert not store.archives.exists()
    tomorrow = time.time() + 86400
    os.utime(path, (tomorrow, tomorrow))
    monkeypatch.setattr(file_state, "_SETTLED", 0)
    opened(f"{path}:one", store)
    assert not store.archives.exists()


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000, "size", "head", "checksum"])
def test_a_damaged_record_counts_as_absent(tmp_path, store, reads, damage):
    path = docker(tmp_path / "x")
    first = opened(f"{path}:one", store)
    (record,) = store.archives.iterdir()
    document = json.loads(record.read_bytes())
    if damage == "checksum":
        del document["checksum"]
    elif damage == "size":
        document["members"]["manifest.json"]["size"] += 1
    elif damage == "head":
        head = document["members"]["manifest.json"]["head"]
        document["members"]["manifest.json"]["head"] = head[:50] + ("A" if head[50] != "A" else "B") + head[51:]
    record.write_bytes(damage if isinstance(damage, bytes) else json.dumps(document).encode())
    for _ in range(2):
        assert opened(f"{path}:one", store) == first
    assert len(reads) == 2


def test_as_many_are_kept_as_were_used_last(tmp_path, store, reads, monkeypatch):
    monkeypatch.setattr(archive_records, "_MOST_RECORDS", 3)
    monkeypatch.setattr(archive_records, "_USE", -1.0)
    paths = [docker(tmp_path / name) for name in "abcd"]
    hour_ago = time.time() - 3600
    for number, path in enumerate(paths[:3]):
        opened(f"{path}:one", store)
        record = store.archives / file_state.record_name(path)
        os.utime(record, (hour_ago + number, hour_ago + number))
    opened(f"{paths[0]}:one", store)
    opened(f"{paths[3]}:one", store)
    assert len(list(store.archives.iterdir())) == 3
    for path in (paths[0], paths[2], paths[3]):
        opened(f"{path}:one", store)
    assert reads == paths
    opened(f"{paths[1]}:one", store)
    assert reads == [*paths, paths[1]]


def test_too_much_is_not_remembered(tmp_path, store, monkeypatch):
    monkeypatch.setattr("propolis.image.remembered.MAX_CONTENT", 100)
    path = docker(tmp_path / "x")
    for _ in range(2):
        assert opened(f"{path}:one", store).config.platform == AMD64
    assert not store.archives.exists()


def test_a_layer_of_another_state_of_the_file_is_refused(tmp_path, store):
    path = docker(tmp_path / "x")
    opened(f"{path}:one", store)
    with open_image(f"{path}:one", AMD64, store) as image:
        with path.open("ab") as file:
            file.write(gzip.compress(b"more"))
        for layer in image.layers:
            with pytest.raises(ImageInvalid, match="changed while it was read"):
                image.open_layer(layer)
    assert not list(store.spool.iterdir())


def test_an_archive_that_cannot_be_copied_is_tried_once(tmp_path, store, monkeypatch):
    path = docker(tmp_path / "x")
    opened(f"{path}:one", store)
    tried = []

    def fail(path, *_):
        tried.append(path)
        raise DiskError("no")

    monkeypatch.setattr(tar_files, "spooled", fail)
    with open_image(f"{path}:one", AMD64, store) as image:
        for layer in image.layers:
            with pytest.raises(DiskError, match="no"):
                image.open_layer(layer)
    assert tried == [path]


def test_a_record_that_cannot_be_kept_hinders_nobody(tmp_path, store):
    store.archives.parent.mkdir()
    store.archives.write_bytes(b"")
    path = docker(tmp_path / "x")
    assert len(outcome(f"{path}:one", store)) == 3


def test_an_archive_that_is_read_in_place_leaves_no_record(tmp_path, store):
    path = docker(tmp_path / "x")
    path.write_bytes(gzip.decompress(path.read_bytes()))
    opened(f"{path}:one", store)
    assert not store.archives.exists()
