import contextlib
import json
import os
import threading
import time

import pytest

from propolis.disk import cache as disk_cache
from propolis.errors import ImageInUse, ImageNotFound, InvalidArgument
from propolis.image import digest as digests
from propolis.images.collection import prune, remove
from propolis.images.space import usage
from propolis.spec import DiskFormat
from propolis.state.leases import Lease
from propolis.testing.images import layer_tar

A, B = "docker.io/library/a:1", "docker.io/library/b:1"
BASE, ONE, TWO = {"base": b"b" * 9000}, {"one": b"1"}, {"two": b"2"}


def kinds(collected):
    return sorted(item.kind for item in collected.removed)


def test_what_has_a_name_stays(store):
    store.image(A, [BASE, ONE])
    store.image(B, [BASE, TWO])
    before = store.files()
    assert prune().removed == ()
    assert store.files() == before


def test_what_has_none_goes(store):
    store.image(A, [BASE, ONE])
    store.image("", [BASE, TWO])
    collected = prune(dry_run=True)
    assert store.files() != []
    assert kinds(collected) == ["blob", "blob", "blob", "disk"]
    assert prune() == collected
    assert collected.size == sum(item.size for item in collected.removed) > 4096
    kept = store.files()
    assert len([name for name in kept if name.startswith("blobs/sha256")]) == 4
    assert prune().removed == ()


def test_a_tag_that_moved_leaves_its_old_image(store):
    store.image(A, [BASE, ONE])
    store.image(A, [BASE, TWO])
    assert kinds(prune()) == ["blob", "blob", "blob", "disk"]


def test_all_takes_what_no_machine_uses(store):
    store.image(A, [BASE, ONE])
    used = store.image(B, [BASE, TWO])
    with Lease(store.cache, "m") as lease:
        lease.add({used, *(digests.of(layer_tar(tree)) for tree in (BASE, TWO))} | store_names(store, used))
        collected = prune(all=True)
        assert collected.untagged == (A,)
        assert kinds(collected) == ["blob", "blob", "blob", "disk"]
    collected = prune(all=True)
    assert collected.untagged == (B,)
    assert store.files() == []


def store_names(store, digest):
    from propolis.images.reach import follow

    return set(follow(store.blobs, digest).names)


def test_a_lease_protects_disks_of_any_version_and_format(store, monkeypatch):
    digest = store.image("", [ONE], blobs=False)
    tar = layer_tar(ONE)
    store.disk([digests.of(tar)], tar, DiskFormat.VHDX)
    with monkeypatch.context() as patch:
        patch.setattr(disk_cache, "WRITER_VERSION", 0)
        store.disk([digests.of(tar)], tar)
    with Lease(store.cache) as lease:
        lease.add(store_names(store, digest))
        assert prune(all=True).removed == ()
    assert kinds(prune()) == ["blob", "blob", "disk", "disk", "disk"]


def test_disks_that_nobody_would_take_go(store, monkeypatch):
    store.image(A, [ONE])
    tar = layer_tar(ONE)
    store.disk([digests.of(tar)], tar, DiskFormat.VHDX)
    with monkeypatch.context() as patch:
        patch.setattr(disk_cache, "WRITER_VERSION", 0)
        store.disk([digests.of(tar)], tar)
    assert kinds(prune()) == ["disk", "disk"]
    assert [(disk.format, disk.is_current) for disk in store.layers.disks()] == [(DiskFormat.RAW, True)]


def test_what_is_newer_than_an_empty_lease_stays(store):
    store.image("", [ONE])
    time.sleep(0.02)
    with Lease(store.cache):
        time.sleep(0.02)
        store.image("", [TWO])
        store.image(A, [BASE])
        assert kinds(prune(all=True)) == ["blob", "blob", "blob", "disk"]
        assert len(store.layers.disks()) == 2
    prune(all=True)
    assert store.files() == []


def test_damaged_half_done_and_left_over_files_go(store):
    store.image(A, [ONE])
    before = store.files()
    value = "a" * 64
    blobs = store.cache / "blobs" / "sha256"
    for name in (f"damaged-{value}", f".partial-{value}", f".partial-{value}.ranges", f".staged-{value}-0123456789ab"):
        (blobs / name).write_bytes(b"x" * 5000)
    (store.cache / "layers" / f"damaged-sha256-{value}.3.raw").write_bytes(b"x" * 5000)
    (store.cache / "layers" / f".staged-sha256-{value}.3.raw-0123456789ab").write_bytes(b"x")
    (store.cache / "blobs" / "tags" / ".staged-x-0123456789ab").write_bytes(b"x")
    (store.cache / "blobs" / "spool").mkdir()
    (store.cache / "blobs" / "spool" / ".staged-stream-0123456789ab").write_bytes(b"x")
    assert kinds(prune()) == ["damaged", "damaged", "partial"]
    assert store.files() == before


def test_a_partial_blob_that_a_named_image_needs_stays(store):
    tar = layer_tar(ONE)
    store.image(A, [ONE], disks=False, blobs=False)
    (store.cache / "blobs" / "sha256" / f".partial-{digests.of(tar)[7:]}").write_bytes(b"x")
    assert prune().removed == ()
    assert kinds(prune(all=True)) == ["blob", "blob", "partial"]


def test_blobs_go_where_a_registry_has_them_and_disks_are_made(store):
    store.image(A, [BASE, ONE], fetched=True)
    store.image("docker.io/library/loaded:1", [BASE, TWO])
    store.image(B, [TWO, {"three": b"3"}], fetched=True, disks=False)
    assert [item.name for item in prune(blobs=True).removed] == [digests.of(layer_tar(ONE))]
    assert len(store.layers.disks()) == 3


def test_a_name_goes_and_with_the_last_one_the_rest(store):
    digest = store.image(A, [BASE, ONE])
    store.tags.keep(B, digest)
    store.image("docker.io/library/c:1", [BASE, TWO])
    store.image("", [{"dangling": b""}])
    collected = remove("a:1")
    assert (collected.untagged, collected.removed) == ((A,), ())
    collected = remove("b:1")
    assert (collected.untagged, kinds(collected)) == ((B,), ["blob", "blob", "blob", "disk"])
    with pytest.raises(ImageNotFound):
        remove("b:1")
    remove("c:1")
    assert len(store.layers.disks()) == 1  # what never had a name is not touched


def test_by_digest_all_names_are_meant(store):
    digest = store.image(A, [ONE])
    store.tags.keep(B, digest)
    with pytest.raises(InvalidArgument, match="2 names"):
        remove(digest)
    assert remove(digest[7:15], force=True).untagged == (A, B)
    assert store.files() == []


def test_what_never_had_a_name_is_removed_by_its_digest(store):
    digest = store.image("", [ONE])
    assert kinds(remove(digest)) == ["blob", "blob", "blob", "disk"]
    assert store.files() == []


def test_what_a_machine_uses_is_refused(store):
    digest = store.image(A, [ONE])
    with Lease(store.cache, "busy") as lease:
        lease.add(store_names(store, digest))
        with pytest.raises(ImageInUse, match="busy") as caught:
            remove("a:1")
        assert caught.value.exit_code == 1
        store.tags.keep(B, digest)
        assert remove("a:1").untagged == (A,)  # it has another name
        collected = remove("b:1", force=True)
        assert (collected.untagged, collected.removed) == ((B,), ())
        assert len(store.layers.disks()) == 1
    assert kinds(prune()) == ["blob", "blob", "blob", "disk"]


def test_a_pull_under_way_is_no_machine(store):
    digest = store.image(A, [ONE])
    with Lease(store.cache) as lease:
        lease.add({digest})
        with pytest.raises(ImageInUse, match="being pulled"):
            remove("a:1")


def test_names_that_are_none(store):
    for name in ("", "Ä", "a b", "\x1b[31m", "x" * 10_000, "sha256:zz"):
        with pytest.raises((InvalidArgument, ImageNotFound)):
            remove(name)


def test_a_damaged_record_is_as_good_as_none_and_goes(store):
    store.image(A, [ONE])
    (record,) = (store.cache / "blobs" / "tags").iterdir()
    whole = record.read_bytes()
    for data in (b"{", b"[]", b'{"name": 1, "digest": 2}', b'{"name": "x", "digest": "../../etc"}', b"\xff"):
        record.write_bytes(data)
        assert store.tags.all() == []
    record.with_name(f"{'0' * 64}.json").write_bytes(whole)
    assert store.tags.all() == [], "nor is one that would not be found by its name"
    assert next(item for item in usage() if item.kind == "damaged").total == 2
    assert [item.name for item in prune().removed if item.kind == "damaged"] == [f"{'0' * 64}.json", record.name]
    assert store.files() == []


def test_a_collection_that_is_killed_goes_on_next_time(store, monkeypatch):
    """At whatever file it ends: names go first, what is renamed is swept."""

    class Killed(BaseException):
        pass

    for after in range(8):
        store.image(A, [BASE, ONE])
        calls = []

        def rename(path, *arguments, calls=calls, after=after, real=os.rename):
            calls.append(path)
            if len(calls) > after:
                raise Killed
            return real(path, *arguments)

        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(os, "rename", rename)
            prune(all=True)
        assert store.tags.all() == []
        prune()
        assert store.files() == []


def test_prunes_and_makers_in_a_loop(store):
    """Whoever found something under a lease finds it until the lease ends."""
    failures, least, most = [], time.monotonic() + 1.5, time.monotonic() + 60
    counts = {"made": 0, "pruned": 0}

    def goes_on():
        now = time.monotonic()
        return not failures and (now < least or (min(counts.values()) <= 20 and now < most))

    def start(seed):
        while goes_on():
            trees = [BASE, {"f": str(seed).encode()}]
            tars = [layer_tar(tree) for tree in trees]
            try:
                with Lease(store.cache, "m") as lease:
                    digest = store.image(A if seed % 2 else B, trees, disks=False, blobs=False)
                    lease.add({digest, *map(digests.of, tars)})
                    paths = [store.disk([digests.of(tar)], tar) for tar in tars]
                    for _ in range(3):
                        time.sleep(0.002)
                        if not all(path.exists() for path in paths):
                            failures.append("a disk went away")
                counts["made"] += 1
            except Exception as error:
                failures.append(error)
                raise

    def collect():
        while goes_on():
            counts["pruned"] += len(prune(all=True).removed)

    threads = [threading.Thread(target=start, args=(seed,)) for seed in range(3)] + [threading.Thread(target=collect)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert counts["made"] > 10 and counts["pruned"] > 10
    prune(all=True)
    assert store.files() == []


def test_records_go_with_what_they_are_about(store):
    digest = store.image(A, [BASE, ONE])
    tar = digests.of(layer_tar(BASE))
    kept = [record(store.blobs.signatures, digest), record(store.blobs.tarballs, tar)]
    kept.append(record(store.blobs.archives, digest))
    gone = [record(store.blobs.daemons, digests.of(b"no longer here")), record(store.blobs.signatures, None)]
    gone.append(record(store.blobs.archives, digests.of(b"never here")))
    assert kinds(prune()) == ["record"] * 3
    assert [path.exists() for path in kept + gone] == [True] * 3 + [False] * 3
    assert kinds(remove(A)).count("record") == 3
    assert store.files() == []


def record(directory, digest):
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{len(list(directory.iterdir())):064x}.json"
    path.write_text("[damaged" if digest is None else json.dumps({"digest": digest}))
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))
    return path
