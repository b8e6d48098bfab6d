import sys
from importlib.metadata import EntryPoint

import pytest

from propolis.errors import BackendUnavailable, InvalidArgument
from propolis.hypervisor import registry
from propolis.hypervisor.base import Availability
from propolis.testing.backend import MemoryBackend


class Unusable(MemoryBackend):
    name = "unusable"

    def availability(self):
        return Availability(usable=False, reason="it is out of order", remedy="mend it")


@pytest.fixture
def candidates(monkeypatch):
    """Built-in backends, and those that packages register as `name = module:attribute`."""

    def have(built_in, packaged=()):
        points = [EntryPoint(name, value, registry.ENTRY_POINTS) for name, value in dict(packaged).items()]
        monkeypatch.setattr(registry, "_BUILT_IN", built_in)
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)

    return have


def test_the_first_usable_one_is_chosen(candidates):
    candidates({"unusable": Unusable, "memory": MemoryBackend})
    backend, availability = registry.choose()
    assert (backend.name, availability.usable) == ("memory", True)


def test_when_none_is_usable_each_says_why(candidates):
    candidates({"one": Unusable, "two": Unusable}, {"broken": "no.such.module:Backend"})
    with pytest.raises(BackendUnavailable) as caught:
        registry.choose()
    said = str(caught.value)
    assert "one: it is out of order" in said
    assert "two: it is out of order" in said
    assert "no.such.module" in said
    assert "mend it" in caught.value.hint


def test_a_broken_package_does_not_stand_in_the_way(candidates):
    candidates({}, {"a-broken": "no.such.module:Backend", "memory": "propolis.testing.backend:MemoryBackend"})
    assert registry.choose()[0].name == "memory"
    with pytest.raises(BackendUnavailable, match="cannot be loaded"):
        registry.create("a-broken")


def test_a_backend_that_was_asked_for_is_the_only_candidate(candidates):
    candidates({"memory": MemoryBackend, "unusable": Unusable})
    with pytest.raises(BackendUnavailable, match="out of order"):
        registry.choose("unusable")


@pytest.mark.parametrize("name", ["xen", ""])
def test_an_unknown_name_lists_the_known(candidates, name):
    candidates({"memory": MemoryBackend}, {"other": "propolis.testing.backend:MemoryBackend"})
    with pytest.raises(InvalidArgument) as caught:
        registry.choose(name)
    assert caught.value.hint == "choose one of: memory, other"


@pytest.mark.skipif(sys.platform == "win32", reason="there it is a candidate")
def test_hyper_v_is_no_candidate_elsewhere_but_says_why():
    assert "hyperv" not in list(registry.names())
    with pytest.raises(BackendUnavailable, match=r"hyperv: Hyper-V is part of Windows"):
        registry.choose("hyperv")


def test_a_package_does_not_replace_a_built_in_backend(candidates):
    candidates({"memory": MemoryBackend}, {"memory": "no.such.module:Backend"})
    assert list(registry.names()) == ["memory"]
    assert registry.create("memory").name == "memory"
