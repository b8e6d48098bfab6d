"""The hash of names in indexed directories: the half MD4 of fs/ext4/hash.c (DX_HASH_HALF_MD4, unsigned characters).

Many names at once: an integer of Python's holds one 32-bit value of each name, in lanes of 64 bits, so that an addition
or a rotation is one operation for all of them. Several times faster than name by name.
"""

import struct
from array import array
from collections.abc import Sequence
from sys import byteorder

_K2, _K3 = 0x5A827999, 0x6ED9EBA1
_SLICE = 2048
"""Names hashed at once; their values stay in the processor's cache."""
_CHUNK = 32
_END = 0xFFFFFFFE
"""EXT4_HTREE_EOF_32BIT << 1: a value that marks the end of a directory, never a hash."""
_BYTE = [bytes((value,)) for value in range(_CHUNK)]

# Rounds of fs/ext4/hash.c: function, constant, and for each step the word of the input and the rotation.
_ROUNDS = (
    (0, ((0, 3), (1, 7), (2, 11), (3, 19), (4, 3), (5, 7), (6, 11), (7, 19))),
    (_K2, ((1, 3), (3, 5), (5, 9), (7, 13), (0, 3), (2, 5), (4, 9), (6, 13))),
    (_K3, ((3, 3), (7, 9), (2, 11), (6, 15), (1, 3), (5, 9), (0, 11), (4, 15))),
)


def hashes(names: Sequence[bytes], seed: bytes) -> list[tuple[int, int]]:
    """Major and minor hash of each name; `seed` are the superblock's sixteen bytes."""
    found: list[tuple[int, int]] = [(0, 0)] * len(names)
    by_length: dict[int, list[int]] = {}
    for index, name in enumerate(names):
        by_length.setdefault(-(-len(name) // _CHUNK), []).append(index)
    for chunks, indices in by_length.items():
        for start in range(0, len(indices), _SLICE):
            some = indices[start : start + _SLICE]
            for index, both in zip(some, _slice([names[i] for i in some], chunks, seed), strict=True):
                found[index] = both
    return found


def _slice(names: Sequence[bytes], chunks: int, seed: bytes) -> list[tuple[int, int]]:
    """The hashes of names that have so many chunks."""
    count = len(names)
    ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * count, "little")
    state = [value * ones for value in struct.unpack("<4I", seed)]
    for chunk in range(chunks):
        words = array("I", b"".join([_input(name[chunk * _CHUNK :]) for name in names]))
        if byteorder == "little":
            words.byteswap()
        state = _transform(state, [_lanes(words[word::8]) for word in range(8)], ones)
    majors, minors = (_values(state[word], count) for word in (1, 2))
    return [
        (major & ~1 if major & ~1 != _END else _END - 2, minor) for major, minor in zip(majors, minors, strict=True)
    ]


def _input(rest: bytes) -> bytes:
    """What is left of a name as eight big-endian words, filled up with its length (str2hashbuf)."""
    length = len(rest)
    if length >= _CHUNK:
        return rest[:_CHUNK]
    fill = _BYTE[length]
    odd = length & 3
    if odd:
        return (rest[:-odd] + fill * (4 - odd) + rest[-odd:]).ljust(_CHUNK, fill)
    return rest.ljust(_CHUNK, fill)


def _lanes(values: "array[int]") -> int:
    wide = array("Q", values)
    if byteorder == "big":
        wide.byteswap()
    return int.from_bytes(wide.tobytes(), "little")


def _values(lanes: int, count: int) -> "array[int]":
    values = array("Q", lanes.to_bytes(8 * count, "little"))
    if byteorder == "big":
        values.byteswap()
    return values


def _transform(state: list[int], words: list[int], ones: int) -> list[int]:
    """half_md4_transform, for all lanes."""
    mask = 0xFFFFFFFF * ones
    a, b, c, d = state
    for number, (constant, steps) in enumerate(_ROUNDS):
        constants = constant * ones
        for word, rotation in steps:
            if number == 0:
                mixed = d ^ (b & (c ^ d))
            elif number == 1:
                mixed = (b & c) + ((b ^ c) & d)
            else:
                mixed = b ^ c ^ d
            turned = (a + mixed + words[word] + constants & mask) << rotation
            a, b, c, d = d, turned & mask | turned >> 32 & mask, b, c
    return [before + after & mask for before, after in zip(state, (a, b, c, d), strict=True)]
