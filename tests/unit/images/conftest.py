import pytest

from stores import store_below


@pytest.fixture
def store(tmp_path, monkeypatch):
    return store_below(tmp_path, monkeypatch)
