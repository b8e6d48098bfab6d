import random

import pytest

from propolis.disk.ext4 import half_md4

SEED = bytes.fromhex("00112233445566778899aabbccddeeff")
KNOWN = {
    b"a": (0x93752EE6, 0x578C30BA),
    b"hello": (0x344CA36E, 0x2EF16DE2),
    b"abc": (0xB1CD624A, 0x9519AEC5),
    b"abcd": (0xF4E4A464, 0x2B729F00),
    b"x" * 32: (0x7AE82A38, 0xEE359097),
    b"y" * 33: (0x145DE81C, 0x79273816),
    b"q" * 255: (0xDAA4287A, 0x6B10B7A3),
}
"""As debugfs's `dx_hash -h half_md4` says."""


@pytest.mark.parametrize("name", KNOWN)
def test_hashes_that_debugfs_computes(name):
    assert half_md4.hashes([name], SEED) == [KNOWN[name]]


def test_many_at_once_have_the_hashes_that_each_has_alone(monkeypatch):
    monkeypatch.setattr(half_md4, "_SLICE", 7)
    chance = random.Random(1)
    names = [chance.randbytes(chance.choice([1, 2, 3, 4, 5, 31, 32, 33, 63, 64, 65, 255])) for _ in range(300)]
    assert half_md4.hashes(names, SEED) == [half_md4.hashes([name], SEED)[0] for name in names]


def test_no_hash_is_the_mark_of_the_end(monkeypatch):
    monkeypatch.setattr(half_md4, "_transform", lambda state, words, ones: [0, 0xFFFFFFFF * ones, 0, 0])
    assert half_md4.hashes([b"a"], SEED)[0][0] == 0xFFFFFFFC
