import pytest

from propolis.hypervisor import registry
from propolis.testing.backend import MemoryBackend
from stores import Store


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("PROPOLIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PROPOLIS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PROPOLIS_CONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(registry, "_BUILT_IN", {"memory": MemoryBackend})
    return Store(tmp_path / "cache")
