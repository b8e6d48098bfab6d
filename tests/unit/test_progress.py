import pytest

from propolis.progress import Reporter, Revocable, Revoked, Silent

CALLS = [("expect", "s"), ("begin", "s"), ("advance", "s"), ("end", "s"), ("skip", "s"), ("notice", "text")]


class Listening(Silent):
    def __init__(self):
        self.heard = []
        for name in {name for name, _ in CALLS}:
            setattr(self, name, lambda *given, name=name: self.heard.append((name, given[0])))


def test_a_revocable_passes_all_on_until_it_is_left():
    listening = Listening()
    with Revocable(listening) as revocable:
        for name, given in CALLS:
            getattr(revocable, name)(given)
    assert listening.heard == CALLS
    for name, given in CALLS:
        with pytest.raises(Revoked):
            getattr(revocable, name)(given)
    assert listening.heard == CALLS


def test_every_call_is_passed_on():
    assert {name for name, _ in CALLS} == {name for name in vars(Reporter) if not name.startswith("_")}
