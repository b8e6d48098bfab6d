"""`save` and `load`: what goes out comes back the same, and nothing else comes in."""

import gzip
import hashlib
import io
import json
import os
import tarfile

import pytest

from propolis.errors import DigestMismatch, ImageError, ImageInvalid, ImageNotFound, InvalidArgument, StorageFull
from propolis.image import digest as digests
from propolis.image.manifest import OCI_INDEX, OCI_MANIFEST
from propolis.image.opening import open_image
from propolis.images import archived
from propolis.images.catalog import inspect, list_images, tag
from propolis.images.collection import prune
from propolis.images.loading import load
from propolis.images.saving import save
from propolis.spec import Architecture, PullPolicy
from propolis.testing.images import layer_tar, write_blob, write_index, write_layout
from propolis.testing.registry import Registry

A, B = "docker.io/library/a:1", "example.org/b:latest"
BASE, ONE, TWO = {"base": os.urandom(90_000)}, {"one": b"1"}, {"two": b"2"}


def members(path):
    with tarfile.open(path) as archive:
        return {item.name: archive.extractfile(item).read() for item in archive}


def write_tar(path, files):
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            item = tarfile.TarInfo(name)
            if isinstance(data, str):
                item.type, item.linkname = tarfile.SYMTYPE, data
                archive.addfile(item)
            else:
                item.size = len(data)
                archive.addfile(item, io.BytesIO(data))
    return path


def emptied(store):
    prune(all=True)
    assert store.files() == []


@pytest.mark.parametrize("form", ["path", "stream", "gzip", "gzip path", "directory"])
def test_what_was_saved_is_loaded_the_same(store, tmp_path, form):
    first, second = store.image(A, [BASE, ONE]), store.image(B, [BASE, TWO])
    tag(A, "c")
    path = tmp_path / "images.tar"
    save([A, "c", B], path)
    emptied(store)
    if form == "directory":
        with tarfile.open(path) as archive:
            archive.extractall(tmp_path / "layout", filter="data")
        loaded = load(tmp_path / "layout")
    elif form == "path":
        loaded = load(path)
    elif form == "gzip path":
        packed = tmp_path / "images.tar.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        loaded = load(str(packed))
    else:
        loaded = load(io.BytesIO(gzip.compress(path.read_bytes()) if form == "gzip" else path.read_bytes()))
    assert [(image.digest, image.names) for image in loaded] == [
        (first, (A, "docker.io/library/c:latest")),
        (second, (B,)),
    ]
    assert [(image.digest, image.is_complete) for image in list_images()] == [(first, True)] * 2 + [(second, True)]
    assert not any("spool" in name for name in store.files())
    again = tmp_path / "again.tar"
    save([A, "c", B], again)
    assert again.read_bytes() == path.read_bytes()
    image = open_image(A, Architecture.X86_64, store.blobs, PullPolicy.NEVER)
    with image.open_layer(image.layers[0]) as blob:
        assert blob.read() == layer_tar(BASE)


def test_the_archive_is_a_layout_and_docker_s(store, tmp_path):
    digest = store.image(A, [ONE])
    save(A, tmp_path / "a.tar")
    found = members(tmp_path / "a.tar")
    assert list(found)[:3] == ["oci-layout", "index.json", "manifest.json"]
    for name, data in found.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(data).hexdigest() == name.rpartition("/")[2]
    (listed,) = json.loads(found["index.json"])["manifests"]
    assert listed["digest"] == digest
    assert listed["annotations"]["org.opencontainers.image.ref.name"] == "1"
    (docker,) = json.loads(found["manifest.json"])
    assert docker["RepoTags"] == ["a:1"]
    assert all(name in found for name in [docker["Config"], *docker["Layers"]])


def test_by_digest_it_is_saved_without_a_name(store, tmp_path):
    digest = store.image(A, [ONE])
    save(digest, tmp_path / "a.tar")
    emptied(store)
    (loaded,) = load(tmp_path / "a.tar")
    assert (loaded.digest, loaded.names) == (digest, ())
    tag(digest, "c")
    assert [image.name for image in list_images()] == ["docker.io/library/c:latest"]


def test_what_is_there_and_no_file_is_not_replaced(store, tmp_path):
    store.image(A, [ONE])
    for name, make in (("directory", os.mkdir), ("pipe", getattr(os, "mkfifo", os.mkdir))):
        make(tmp_path / name)
        with pytest.raises(InvalidArgument, match="no file"):
            save(A, tmp_path / name)
    assert not list(tmp_path.glob(".staged-*"))


def test_a_layer_that_is_not_here_is_fetched_from_where_it_came(store, tmp_path):
    write_layout(tmp_path / "layout", [BASE, ONE])
    with Registry() as registry:
        registry.push(tmp_path / "layout", "app")
        name = f"{registry.address}/app"
        image = open_image(name, Architecture.X86_64, store.blobs, PullPolicy.ALWAYS)
        digest = image.digest
        save(name, tmp_path / "a.tar")
        wrong = store.blobs.path(image.layers[0].digest)
        wrong.write_bytes(wrong.read_bytes()[:-1] + b"?")
        store.blobs.path(image.layers[1].digest).unlink()
        save(name, tmp_path / "b.tar")  # damaged ones are not here either
        assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
        assert len(list(wrong.parent.glob("damaged-*"))) == 1
        tag(name, "copy")
    store.blobs.path(image.layers[1].digest).unlink()
    with pytest.raises(ImageError):
        save(name, tmp_path / "c.tar")
    with pytest.raises(ImageError):
        save("copy", tmp_path / "c.tar")
    assert not (tmp_path / "c.tar").exists()
    emptied(store)
    assert load(tmp_path / "a.tar")[0].digest == digest


def test_what_is_nowhere_cannot_be_saved(store, tmp_path):
    store.image(A, [ONE], blobs=False)
    target = tmp_path / "a.tar"
    target.write_bytes(b"before")
    with pytest.raises(ImageNotFound, match="no registry is known"):
        save(A, target)
    with pytest.raises(ImageNotFound):
        save("none", target)
    assert target.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "cache"]


def test_no_room_for_the_archive(store, tmp_path, monkeypatch):
    store.image(A, [BASE])

    class Full(io.FileIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", lambda *_, **__: Full(os.devnull, "w"))
        with pytest.raises(StorageFull):
            save(A, tmp_path / "a.tar")
    assert not list(tmp_path.glob("*.tar")) and not list(tmp_path.glob(".staged*"))


def docker_archive(path, trees, *, tags=("a:1",), layer=lambda data: data, **changes):
    tars = [layer_tar(tree) for tree in trees]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": [digests.of(tar) for tar in tars]}}
    data = json.dumps(config).encode()
    name = hashlib.sha256(data).hexdigest() + ".json"
    files = {f"{number}/layer.tar": layer(tar) for number, tar in enumerate(tars)}
    item = {"Config": name, "RepoTags": list(tags), "Layers": list(files)} | changes
    return write_tar(path, {**files, name: data, "manifest.json": json.dumps([item]).encode()})


@pytest.mark.parametrize("layer", [lambda data: data, lambda data: gzip.compress(data, mtime=0)])
def test_an_older_docker_s_archive_gets_a_manifest_always_the_same(store, tmp_path, layer):
    path = docker_archive(tmp_path / "a.tar", [BASE, ONE], layer=layer)
    (loaded,) = load(path)
    assert loaded.names == (A,)
    emptied(store)
    assert load(path) == [loaded]
    image = open_image("a:1", Architecture.X86_64, store.blobs, PullPolicy.NEVER)
    assert image.digest == loaded.digest
    with image.open_layer(image.layers[1]) as blob:
        assert blob.read() == layer(layer_tar(ONE))


def test_a_layer_that_is_listed_often_is_read_once_for_its_digest(store, tmp_path, monkeypatch):
    reads, real = [], archived._digest_of
    monkeypatch.setattr(archived, "_digest_of", lambda file: reads.append(file) or real(file))
    names = ["0/layer.tar"] * 3
    load(docker_archive(tmp_path / "a.tar", [BASE] * 3, layer=gzip.compress, Layers=names))
    assert len(reads) == 1


def test_layers_shared_by_links_are_followed_within_the_archive(store, tmp_path):
    path = docker_archive(tmp_path / "a.tar", [ONE])
    files = members(path)
    tar = files.pop("0/layer.tar")
    files |= {"x/layer.tar": tar, "0/layer.tar": "../x/layer.tar"}
    assert load(write_tar(path, files))[0].names == (A,)
    files["0/layer.tar"] = "../../../../etc/passwd"
    with pytest.raises(ImageNotFound):
        load(write_tar(path, files))


def test_of_several_platforms_those_are_kept_that_are_there(store, tmp_path):
    layout = tmp_path / "layout"
    found = {
        architecture: write_layout(layout, [{"f": architecture.encode()}], tag=None, architecture=architecture)
        for architecture in Architecture
    }
    top = write_index(layout, found, tag="docker.io/library/a:1")
    (loaded,) = load(layout)
    assert (loaded.digest, loaded.names) == (top, (A,))
    assert [item["Architecture"] for item in inspect(A)] == ["amd64", "arm64"]
    save(A, tmp_path / "both.tar")
    emptied(store)
    (layout / "blobs" / "sha256" / found[Architecture.AARCH64][7:]).unlink()
    assert load(layout)[0].digest == top
    assert [item["Architecture"] for item in inspect(A)] == ["amd64"]
    save(A, tmp_path / "one.tar")
    assert members(tmp_path / "one.tar").keys() < members(tmp_path / "both.tar").keys()
    emptied(store)
    assert load(tmp_path / "both.tar")[0].digest == load(tmp_path / "one.tar")[0].digest == top
    assert len(inspect(A)) == 2


def test_an_attestation_goes_along(store, tmp_path):
    layout = tmp_path / "layout"
    manifest = write_layout(layout, [ONE], tag=None)
    statement = write_blob(layout, b"{}", "application/vnd.in-toto+json")
    config = write_blob(
        layout, b'{"architecture": "unknown", "os": "unknown"}', "application/vnd.oci.image.config.v1+json"
    )
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [statement]}
    attestation = write_blob(layout, json.dumps(document).encode(), OCI_MANIFEST)
    size = (layout / "blobs/sha256" / manifest[7:]).stat().st_size
    listed = [{"mediaType": OCI_MANIFEST, "digest": manifest, "size": size}, attestation]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
    described = write_blob(layout, json.dumps(index).encode(), OCI_INDEX)
    top = {**described, "annotations": {"io.containerd.image.name": A}}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    load(layout)
    save(A, tmp_path / "a.tar")
    assert f"blobs/sha256/{statement['digest'][7:]}" in members(tmp_path / "a.tar")
    assert prune().removed == ()


@pytest.mark.parametrize("kind", ["layer", "config", "manifest"])
@pytest.mark.parametrize("fault", ["other bytes", "shorter", "longer", "missing"])
def test_archives_that_are_not_what_they_say(store, tmp_path, kind, fault):
    store.image(A, [{"f": os.urandom(5000)}])
    save(A, tmp_path / "a.tar")
    (image,) = inspect(A)
    emptied(store)
    digest = {"layer": image["Layers"][0]["Digest"], "config": image["ConfigDigest"], "manifest": image["Manifest"]}[
        kind
    ]
    files = members(tmp_path / "a.tar")
    name = f"blobs/sha256/{digest[7:]}"
    data = files.pop(name)
    wrong = {"other bytes": data[:-1] + b"?", "shorter": data[:-1], "longer": data + b"\0"}
    if fault in wrong:
        files[name] = wrong[fault]
    with pytest.raises((ImageInvalid, ImageNotFound, DigestMismatch)):
        load(write_tar(tmp_path / "b.tar", files))
    assert list_images() == []
    emptied(store)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"x": b"y"},
        {"index.json": b"{}"},
        {"index.json": b"{", "oci-layout": b'{"imageLayoutVersion": "1.0.0"}'},
        {"index.json": b'{"schemaVersion": 2, "manifests": []}', "oci-layout": b'{"imageLayoutVersion": "1.0.0"}'},
        {"index.json": b'{"schemaVersion": 2, "manifests": []}', "oci-layout": b'{"imageLayoutVersion": "9"}'},
        {"index.json": b" " * (5 << 20), "oci-layout": b'{"imageLayoutVersion": "1.0.0"}'},
        {"index.json": "/etc/passwd", "oci-layout": "../../etc/passwd"},
        {"manifest.json": b"[]"},
        {"manifest.json": b"{}"},
        {"manifest.json": b'[{"Config": "../../../etc/passwd", "Layers": []}]'},
        {"manifest.json": json.dumps([{"Config": "c", "Layers": ["l"] * 10_000}]).encode()},
        {"manifest.json": b"[" * 100_000},
    ],
)
def test_what_is_no_image(store, tmp_path, files):
    with pytest.raises(ImageError):
        load(write_tar(tmp_path / "a.tar", files))
    assert store.files() == []


def test_an_index_that_leads_to_itself_or_too_deep(store, tmp_path):
    layout = tmp_path / "layout"
    inner = {"mediaType": OCI_MANIFEST, "digest": write_layout(layout, [ONE], tag=None), "size": 0}
    inner["size"] = (layout / "blobs/sha256" / inner["digest"][7:]).stat().st_size
    for _ in range(8):
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inner] * 3}
        inner = write_blob(layout, json.dumps(document).encode(), OCI_INDEX)
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [inner]}))
    with pytest.raises(ImageInvalid, match="nested"):
        load(layout)
    assert store.files() == []


def test_names_in_archives_that_are_none_are_left_out(store, tmp_path):
    names = ["Ä:1", "a\x1b[31m:1", "../../etc/passwd", "x" * 5000, "ok:1", ""]
    assert load(docker_archive(tmp_path / "a.tar", [ONE], tags=names))[0].names == ("docker.io/library/ok:1",)


def test_no_room_in_the_store(store, tmp_path, monkeypatch):
    path = docker_archive(tmp_path / "a.tar", [BASE])

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageFull):
            load(path)
    assert list_images() == []
    assert store.files() == []


def test_a_damaged_blob_is_replaced_by_what_is_loaded(store, tmp_path):
    store.image(A, [BASE])
    save(A, tmp_path / "a.tar")
    path = store.blobs.path(digests.of(layer_tar(BASE)))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"?")
    load(tmp_path / "a.tar")
    assert path.read_bytes() == data


def test_paths_and_streams_that_cannot_be_read(store, tmp_path):
    with pytest.raises(ImageNotFound):
        load(tmp_path / "none")
    with pytest.raises(ImageError):
        load(tmp_path)
    with pytest.raises(ImageInvalid, match="empty"):
        load(io.BytesIO(b""))
    with pytest.raises(ImageError):
        load(io.BytesIO(b"nonsense" * 200))
    assert store.files() == []
