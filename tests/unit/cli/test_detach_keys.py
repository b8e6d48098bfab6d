import pytest
from hypothesis import given
from hypothesis import strategies as st

from propolis.cli.detach_keys import DEFAULT, DetachKeys, parse
from propolis.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (DEFAULT, b"\x10\x11"),
        ("ctrl-a", b"\x01"),
        ("Ctrl-A,d", b"\x01d"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("x", b"x"),
        ("", b""),
    ],
)
def test_sequences_are_spelled_as_docker_has_them(text, keys):
    assert parse(text) == keys


@pytest.mark.parametrize("text", [",", "ctrl-", "ctrl-pp", "ab", "a,", "ctrl-1", "\u00e4", "\x10", ",".join("a" * 17)])
def test_what_is_no_sequence_is_told(text):
    with pytest.raises(InvalidArgument, match="--detach-keys"):
        parse(text)


def feed(sequence, *pieces):
    keys, passed = DetachKeys(sequence), b""
    for piece in pieces:
        some, complete = keys.feed(piece)
        passed += some
        if complete:
            return passed, True
    return passed, False


@pytest.mark.parametrize(
    ("pieces", "passed", "complete"),
    [
        ([b"ls\n\x10\x11rest"], b"ls\n", True),
        ([b"\x10", b"\x11"], b"", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x10"], b"", False),
        ([b"\x11\x10"], b"\x11", False),
    ],
)
def test_keys_that_may_begin_it_are_held_back(pieces, passed, complete):
    assert feed(parse(DEFAULT), *pieces) == (passed, complete)


@given(
    st.binary(max_size=4), st.lists(st.binary(max_size=6), max_size=6), st.sampled_from([b"ab", b"aa", b"abab", b"aab"])
)
def test_nothing_is_lost_but_the_sequence(noise, pieces, sequence):
    typed = noise + b"".join(piece.translate(bytes(97 + value % 2 for value in range(256))) for piece in pieces)
    passed, complete = feed(sequence, *(typed[at : at + 1] for at in range(len(typed))))
    assert feed(sequence, typed) == (passed, complete)
    if complete:
        assert passed == typed[: typed.index(sequence)]
    else:
        assert sequence not in typed
        assert typed.startswith(passed)
        assert sequence.startswith(typed[len(passed) :])
