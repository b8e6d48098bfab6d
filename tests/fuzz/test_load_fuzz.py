"""Archives that were changed at random: `load` takes them whole or says why not, and the store stays sound."""

import io
import json
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from propolis.errors import ImageError
from propolis.hypervisor import registry
from propolis.images.catalog import inspect, list_images
from propolis.images.collection import prune
from propolis.images.loading import load
from propolis.images.saving import save
from propolis.spec import Architecture
from propolis.testing.backend import MemoryBackend
from propolis.testing.images import write_index, write_layout
from stores import Store

NAME = "docker.io/library/a:1"
SLOW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def store(tmp_path, monkeypatch):
    for name in ("CACHE", "DATA", "CONFIG"):
        monkeypatch.setenv(f"PROPOLIS_{name}", str(tmp_path / name.lower()))
    monkeypatch.setattr(registry, "_BUILT_IN", {"memory": MemoryBackend})
    return Store(tmp_path / "cache")


@pytest.fixture
def archive(store, tmp_path):
    """An image for two platforms, as `save` writes it."""
    layout = tmp_path / "layout"
    found = {
        architecture: write_layout(layout, [{"f": architecture.encode()}], tag=None, architecture=architecture)
        for architecture in Architecture
    }
    write_index(layout, found, tag=NAME)
    load(layout)
    save(NAME, tmp_path / "a.tar")
    prune(all=True)
    return (tmp_path / "a.tar").read_bytes()


def check(store, data):
    try:
        load(io.BytesIO(data))
    except ImageError as error:
        assert str(error)
        assert list_images() == []
    else:
        for image in list_images():
            assert image.is_complete
            for item in inspect(image.name):
                assert all(store.blobs.check(layer["Digest"]) for layer in item["Layers"])
    prune(all=True)
    assert store.files() == []


def test_changed_bytes(store, archive):
    @SLOW
    @given(st.lists(st.tuples(st.integers(0, len(archive) - 1), st.integers(0, 255)), max_size=4), st.integers(0, 9))
    def changed(changes, cut):
        data = bytearray(archive)
        for position, value in changes:
            data[position] = value
        check(store, bytes(data[: len(data) - cut * len(data) // 10]))

    changed()


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.text(max_size=8) | st.just("sha256:" + "0" * 64),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=4,
)


def test_changed_documents(store, archive):
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        files = {item.name: opened.extractfile(item).read() for item in opened}
    documents = ["index.json", "manifest.json", "oci-layout"]

    @SLOW
    @given(st.sampled_from(documents), st.lists(st.integers(0, 20), min_size=1, max_size=5), JUNK)
    def changed(name, path, junk):
        document = json.loads(files[name])
        holder = {"": document}
        where, key = holder, ""
        for step in path:
            inner = where[key]
            keys = (
                list(inner) if isinstance(inner, dict) else list(range(len(inner))) if isinstance(inner, list) else []
            )
            if not keys:
                break
            where, key = inner, keys[step % len(keys)]
        where[key] = junk
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as written:
            for member, data in {**files, name: json.dumps(holder[""]).encode()}.items():
                item = tarfile.TarInfo(member)
                item.size = len(data)
                written.addfile(item, io.BytesIO(data))
        check(store, buffer.getvalue())

    changed()
