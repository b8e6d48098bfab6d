import os
import time
from collections import Counter
from pathlib import Path

import pytest

from propolis.errors import ImageNotFound, InvalidArgument
from propolis.image import digest as digests
from propolis.image.tags import TagRecords
from propolis.images.catalog import inspect, list_images, tag
from propolis.images.collection import prune
from propolis.images.inventory import Inventory
from propolis.images.reach import follow
from propolis.images.space import usage
from propolis.state.leases import Lease
from propolis.testing.images import layer_tar

A, B = "docker.io/library/a:1", "example.org/b:latest"
BASE, ONE, TWO = {"base": os.urandom(90_000)}, {"one": b"1"}, {"two": b"2"}


def test_a_host_without_images(store):
    assert list_images() == []
    assert inspect() == []
    assert {item.kind: item.size for item in usage()} == dict.fromkeys(
        ("images", "layer disks", "blobs", "partial blobs", "records", "damaged", "machines", "kernels"), 0
    )
    assert store.files() == []
    with pytest.raises(ImageNotFound, match="no image 'a'"):
        inspect("a")


def test_a_list_tells_what_is_shared(store):
    first = store.image(A, [BASE, ONE])
    store.image(B, [BASE, TWO], fetched=True)
    a, b = list_images()
    assert (a.name, a.digest, a.platforms, a.created) == (A, first, ("linux/amd64",), "2026-01-02T03:04:05Z")
    assert a.is_complete and a.machines == () and abs(a.used - time.time()) < 60
    assert 0 < a.unique < a.size - 90_000
    disks = sum(disk.size for disk in store.layers.disks())
    blobs = sum(blob.size for blob in store.blobs.blobs())
    shared = a.size - a.unique
    assert a.unique + b.unique + shared == disks + blobs == sum(item.size for item in usage())


def test_names_of_one_image_share_nothing_with_each_other(store):
    store.image(A, [ONE])
    tag("a:1", "c")
    assert [image.unique == image.size for image in list_images()] == [True, True]


def test_an_image_without_a_name_is_listed_last_and_found_by_the_beginning_of_its_digest(store):
    lost = store.image("", [BASE, ONE])
    store.image(A, [BASE, TWO])
    store.image("", [{"f": b"3"}], blobs=False)  # was run from a layout
    named, unnamed = list_images()
    assert (unnamed.name, unnamed.digest, unnamed.is_complete) == ("", lost, True)
    assert unnamed.unique < unnamed.size and named.unique < named.size
    assert list_images("a") == [named]
    assert inspect(lost.partition(":")[2][:8])[0]["Id"] == lost
    assert {item.kind: item.total for item in usage()}["images"] == 2
    tag(lost[:19], "b")
    assert [image.name for image in list_images()] == [A, "docker.io/library/b:latest"]


def test_a_name_may_be_given_as_pull_prints_it(store):
    digest = store.image(B, [ONE])
    for name in (f"docker://{B}@{digest}", "docker://example.org/b", f"docker://example.org/b@{digest}"):
        assert inspect(name)[0]["Id"] == digest
    assert [image.name for image in list_images("docker://example.org/b")] == [B]
    tag(f"docker://{B}@{digest}", "docker://a:1")
    assert [image.name for image in list_images("a")] == [A]


def test_an_image_that_somebody_is_bringing_is_not_listed_before_it_has_its_name(store):
    digest = store.image("", [ONE])
    with Lease(store.cache) as lease:
        lease.take()
        lease.add({digest})
        assert list_images() == []
    assert [image.digest for image in list_images()] == [digest]


@pytest.mark.parametrize(
    ("name", "found"), [("a", [A]), ("a:1", [A]), ("a:2", []), ("example.org/b", [B]), ("b", []), (B, [B])]
)
def test_a_list_of_some(store, name, found):
    store.image(A, [ONE])
    store.image(B, [TWO])
    assert [image.name for image in list_images(name)] == found


def test_what_is_not_all_here_is_not_complete(store):
    store.image(A, [BASE, ONE], disks=False, blobs=False)
    store.image(B, [BASE, TWO], disks=False)
    assert [image.is_complete for image in list_images()] == [False, True]


def test_an_image_without_a_name_that_is_collected_while_it_is_listed_is_left_out(store, monkeypatch):
    store.image(A, [ONE])
    lost = store.image("", [TWO])
    find, seen = Inventory.unnamed, []

    def collected_then(inventory):
        found = find(inventory)
        seen.extend(found)
        if len(seen) == 2:  # sizes are added up first
            store.blobs.path(lost).unlink()
        return found

    monkeypatch.setattr(Inventory, "unnamed", collected_then)
    assert [image.name for image in list_images()] == [A]
    assert seen == [lost, lost]


def test_a_damaged_record_that_is_collected_while_space_is_added_up_takes_none(store, monkeypatch):
    store.image(A, [ONE])
    (store.blobs.tags / f"{'0' * 64}.json").write_bytes(b"{")
    find = TagRecords.damaged

    def collected_then(records):
        (found,) = find(records)
        found.unlink()
        return [found]

    monkeypatch.setattr(TagRecords, "damaged", collected_then)
    assert next(item for item in usage() if item.kind == "damaged").size == 0


def test_who_uses_it_is_told(store):
    digest = store.image(A, [ONE])
    with Lease(store.cache, "m") as lease:
        lease.add(follow(store.blobs, digest).names)
        assert list_images()[0].machines == ("m",)
        (found,) = inspect("a:1")
        assert found["Machines"] == ["m"]
        active = {item.kind: item.active for item in usage() if item.active}
        assert active == {"images": 1, "layer disks": 1, "blobs": 3}
        assert sum(item.reclaimable for item in usage()) == 0
    found = usage()
    assert sum(item.reclaimable for item in found) == prune(all=True).size > 0


def test_all_that_is_known(store):
    digest = store.image(A, [BASE, ONE], config={"Cmd": ["/x"], "Labels": {"l": "\x1b[31m"}})
    tag("a:1", "b")
    (found,) = inspect("docker.io/library/a:1")
    assert found["RepoTags"] == ["docker.io/library/a:1", "docker.io/library/b:latest"]
    assert found["RepoDigests"] == [f"docker.io/library/{name}@{digest}" for name in "ab"]
    assert (found["Id"], found["Os"], found["Architecture"]) == (digest, "linux", "amd64")
    assert found["Config"]["Labels"] == {"l": "\x1b[31m"}
    tars = [layer_tar(tree) for tree in (BASE, ONE)]
    assert found["RootFS"]["Layers"] == [layer["DiffId"] for layer in found["Layers"]] == [*map(digests.of, tars)]
    for layer in found["Layers"]:
        assert Path(layer["Blob"]).stat().st_size == layer["Size"]
        assert [Path(disk["Path"]).exists() for disk in layer["Disks"]] == [True]


def test_every_word_for_an_image(store):
    digest = store.image(A, [ONE])
    config = inspect("a:1")[0]["ConfigDigest"]
    words = ["a:1", "library/a:1", A, digest, digest[7:], digest[:20], digest[7:11], config, config[7:19]]
    for word in [*words, f"a@{digest}", f"a:1@{digest}"]:
        assert inspect(word)[0]["Id"] == digest, word
    for word in ("a", "a:2", "x/a:1", f"b@{digest}", "sha256:" + "0" * 64, "0" * 12, digest[7:10]):
        with pytest.raises(ImageNotFound):
            inspect(word)


def test_a_beginning_that_fits_several(store, monkeypatch):
    names = [f"docker.io/library/a:{number}" for number in range(17)]
    digests_of_all = [store.image(name, [{"f": name.encode()}], disks=False) for name in names]
    (most_common, _), *_ = Counter(digest[7] for digest in digests_of_all).most_common()
    monkeypatch.setattr("propolis.images.inventory._SHORTEST_ID", 1)
    with pytest.raises(InvalidArgument, match=r"digests of \d+ images begin with"):
        inspect(most_common)


def test_a_name_that_moves(store):
    first, second = store.image(A, [ONE]), store.image(B, [TWO])
    tag(B, "a:1")
    assert inspect("a:1")[0]["Id"] == second
    tag(first, "old")  # still here, though without a name
    assert inspect("old")[0]["Id"] == first
    prune()
    assert {image.digest for image in list_images()} == {first, second}


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [
        ("none", "b", ImageNotFound),
        ("a:1", "", InvalidArgument),
        ("a:1", "B", InvalidArgument),
        ("a:1", "b@sha256:" + "0" * 64, InvalidArgument),
        ("a:1", "b\n", InvalidArgument),
    ],
)
def test_names_that_cannot_be_given(store, source, target, error):
    store.image(A, [ONE])
    with pytest.raises(error):
        tag(source, target)
    assert [image.name for image in list_images()] == [A]


def test_a_copied_name_is_not_what_a_registry_has(store):
    store.image(A, [ONE], fetched=True)
    tag("a:1", "b")
    tag("a:1", "a:1")
    assert [(record.name, record.is_fetched) for record in store.tags.all()] == [
        (A, True), ("docker.io/library/b:latest", False),
    ]  # fmt: skip


def test_an_artifact_or_nonsense_is_no_image(store):
    digest = store.blob(b'{"schemaVersion": 2, "layers": [{"mediaType": "text/plain", "digest": "x", "size": 1}]}')
    store.tags.keep(A, digest)
    store.tags.keep(B, store.blob(b"x" * (5 << 20)))
    assert [(image.platforms, image.is_complete) for image in list_images()] == [((), False)] * 2
    for call in (lambda: tag(A, "c"), lambda: inspect(A)):
        with pytest.raises(ImageNotFound, match="no more than its name"):
            call()
    assert len(list(store.blobs.blobs())) == 2  # reading removes nothing that is whole


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_to_is_listed(store):
    store.image(A, [ONE])
    store.cache.chmod(0o500)
    assert [image.name for image in list_images()] == [A]
