"""No configuration and no proxy of this host plays a part."""

import os
from dataclasses import replace

import pytest

from propolis.image.registry.retry import Patience
from propolis.image.store import BlobStore
from propolis.testing.images import write_layout
from propolis.testing.registry import Registry

LAYERS = [{"a": b"1", "b": os.urandom(700_000)}, {".wh.a": b"", "c": b"3" * 5000}]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home without anything in it."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in ("DOCKER_CONFIG", "DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    directory = tmp_path / "home"
    directory.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(directory))
    monkeypatch.setenv("PROPOLIS_CONFIG", str(directory / "propolis"))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(directory / "none.conf"))
    return directory


@pytest.fixture
def slept():
    """The seconds that retries would have waited."""
    return []


@pytest.fixture
def patience(slept):
    """Bounds for tests: no sleep, and nothing that works is given up, however busy this host is."""
    return Patience(connect=60, read=60, document=60, window=60, window_bytes=1000, sleep=slept.append)


@pytest.fixture
def soon(patience):
    """Bounds for faults that are waited for."""
    return replace(patience, connect=2, read=0.3, document=1, window=0.3)


@pytest.fixture
def store(tmp_path):
    return BlobStore(tmp_path / "blobs")


@pytest.fixture(scope="session")
def layout(tmp_path_factory):
    """An image of two layers, the first of 700 KB."""
    directory = tmp_path_factory.mktemp("layout")
    write_layout(directory, LAYERS, config={"Cmd": ["/c"]})
    return directory


@pytest.fixture
def registry(layout):
    with Registry() as registry:
        registry.push(layout, "app")
        yield registry
