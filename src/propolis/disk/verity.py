"""A dm-verity hash tree behind a disk's content, by which a reader that knows 32 bytes can trust every block.

As `veritysetup format --hash-offset=<size of the content>` makes it, byte for byte: a block with the superblock, then
the levels of the tree, the root's first (`c_verity`; the kernel's Documentation/admin-guide/device-mapper/verity.rst).
Knows nothing of what the content is, nor of the container. Salt and identifier come from a key.

Content is hashed while it passes by on its way to the disk, so it is not read back. In one thread: the digests are of
4 KiB each, and handing the interpreter's lock around costs more than a second processor gains.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from propolis.disk import c_verity
from propolis.disk.base import DiskReader, DiskWriter
from propolis.disk.c_verity import BLOCK_SIZE, DIGEST_SIZE, HASHES_PER_BLOCK
from propolis.errors import DiskError

MOST_FAULTS = 100

_ZERO_BLOCK = bytes(BLOCK_SIZE)
_NO_DIGEST = bytes(DIGEST_SIZE)
_PIECE = 256 * BLOCK_SIZE
"""Bytes of the tree that are worked on at once: the digests of 128 MiB."""
_MOST_IN_MEMORY = 32 << 20
"""The digests of 4 GiB; of what is larger they wait in a temporary file."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level of the tree."""

    offset: int
    blocks: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tree of `blocks` blocks of content lies on the disk; offsets and `size` in bytes."""

    blocks: int
    superblock: int
    levels: tuple[Level, ...]
    """From the content's hashes up to the root, which lies first. None where the content is a single block."""
    size: int
    """Of the whole disk."""


@dataclass(frozen=True, slots=True)
class Verity:
    """What the superblock of a tree tells."""

    uuid: bytes
    salt: bytes
    layout: Layout


def plan(size: int) -> Layout:
    """The layout for `size` bytes of content, at least one block and whole ones."""
    counts = []
    count = size // BLOCK_SIZE
    while count > 1:
        count = -(-count // HASHES_PER_BLOCK)
        counts.append(count)
    levels = []
    end = size + BLOCK_SIZE
    for count in reversed(counts):
        levels.append(Level(end, count))
        end += count * BLOCK_SIZE
    return Layout(size // BLOCK_SIZE, size, tuple(reversed(levels)), end)


class VerityWriter:
    """Puts the tree behind what is written through it; see `base.DiskWriter`. Not for use by several threads.

    A block must be written whole, or from its start in writes that follow one another; it may be written again.
    To be closed, finished or not.
    """

    def __init__(self, disk: DiskWriter, key: str) -> None:
        """Write to `disk`; identifier and salt are derived from `key`."""
        self.root_hash = ""
        """In hexadecimal, once the disk is finished."""
        digest = bytearray(hashlib.sha256(b"propolis verity uuid " + key.encode()).digest()[:16])
        digest[6] = digest[6] & 0x0F | 0x80  # RFC 9562: version 8, made by an algorithm of our own
        digest[8] = digest[8] & 0x3F | 0x80
        self._uuid = bytes(digest)
        self._salt = hashlib.sha256(b"propolis verity salt " + key.encode()).digest()
        self._disk = disk
        self._salted = hashlib.sha256(self._salt)
        self._digests = tempfile.SpooledTemporaryFile(_MOST_IN_MEMORY)  # noqa: SIM115 - closed by `close`
        self._position = 0
        self._begun = self._salted.copy()
        """The hash of the block that `_position` lies in, if it does not begin there."""

    def write(self, offset: int, views: Sequence[memoryview]) -> None:
        """See `DiskWriter.write`."""
        self._disk.write(offset, views)
        if offset != self._position:
            self._end_block()
            if offset % BLOCK_SIZE:
                raise ValueError(f"a write at {offset} begins inside a block")
            self._position = offset
        self._store(self._position // BLOCK_SIZE, self._hashes(views))

    def _hashes(self, views: Sequence[memoryview]) -> list[bytes]:
        """The digests of all blocks that `views` end; `_position` and `_begun` are then at their end."""
        found: list[bytes] = []
        append, copy = found.append, self._salted.copy
        position = self._position
        for view in views:
            length, at = len(view), 0
            if position % BLOCK_SIZE:
                at = min(length, -position % BLOCK_SIZE)
                self._begun.update(view[:at])
                if not (position + at) % BLOCK_SIZE:
                    append(self._begun.digest())
            rest = (length - at) % BLOCK_SIZE
            end = length - rest
            for start in range(at, end, BLOCK_SIZE):
                state = copy()
                state.update(view[start : start + BLOCK_SIZE])
                append(state.digest())
            if rest:
                self._begun = copy()
                self._begun.update(view[end:])
            position += length
        self._position = position
        return found

    def _end_block(self) -> None:
        """The rest of a begun block is never written, so it reads as zeros."""
        begun = self._position % BLOCK_SIZE
        if begun:
            self._begun.update(_ZERO_BLOCK[begun:])
            self._store(self._position // BLOCK_SIZE, [self._begun.digest()])

    def _store(self, block: int, digests: Sequence[bytes]) -> None:
        if digests:
            self._digests.seek(block * DIGEST_SIZE)
            self._digests.write(b"".join(digests))

    def finish(self, size: int, key: str) -> None:
        """See `DiskWriter.finish`; `size` is that of the content."""
        self._end_block()
        layout = plan(size)
        pieces = self._leaves(layout.blocks)
        for level in layout.levels:
            made = self._write_level(level, pieces)
            pieces = _cut(made)
        self.root_hash = next(pieces).hex()
        self._disk.write(layout.superblock, [memoryview(self._superblock(layout.blocks))])
        self._disk.finish(layout.size, key)

    def close(self) -> None:
        """Let go of the digests that wait for `finish`; nothing more can be written."""
        self._digests.close()

    def _leaves(self, blocks: int) -> Iterator[bytes]:
        """The digests of that many blocks of content, those that were never written included."""
        state = self._salted.copy()
        state.update(_ZERO_BLOCK)
        absent = state.digest()
        for start in range(0, blocks * DIGEST_SIZE, _PIECE):
            length = min(_PIECE, blocks * DIGEST_SIZE - start)
            self._digests.seek(start)
            yield _without_gaps(self._digests.read(length).ljust(length, b"\0"), absent)

    def _write_level(self, level: Level, pieces: Iterator[bytes]) -> bytearray:
        """Write a level of the tree from its content; returns the digests of its blocks: 64 KiB for 1 GiB of disk."""
        made = bytearray()
        offset = level.offset
        last, digest = b"", b""
        for piece in pieces:
            padded = piece.ljust(-(-len(piece) // BLOCK_SIZE) * BLOCK_SIZE, b"\0")
            self._disk.write(offset, [memoryview(padded)])
            offset += len(padded)
            for start in range(0, len(padded), BLOCK_SIZE):
                block = padded[start : start + BLOCK_SIZE]
                if block != last:  # nearly all are the same where the disk is nearly all hole
                    last, digest = block, hashlib.sha256(self._salt + block).digest()
                made += digest
        return made

    def _superblock(self, blocks: int) -> bytes:
        return c_verity.verity_sb.pack(
            c_verity.SIGNATURE, c_verity.VERSION, c_verity.HASH_TYPE_NORMAL, self._uuid, c_verity.ALGORITHM,
            BLOCK_SIZE, BLOCK_SIZE, blocks, len(self._salt), self._salt,
        ).ljust(BLOCK_SIZE, b"\0")  # fmt: skip


def _cut(digests: bytearray) -> Iterator[bytes]:
    for start in range(0, len(digests), _PIECE):
        yield bytes(digests[start : start + _PIECE])


def _without_gaps(digests: bytes, absent: bytes) -> bytes:
    """Put `absent` where there is no digest yet."""
    if _NO_DIGEST not in digests:
        return digests
    if not any(digests):
        return absent * (len(digests) // DIGEST_SIZE)
    every = (digests[at : at + DIGEST_SIZE] for at in range(0, len(digests), DIGEST_SIZE))
    return b"".join([absent if digest == _NO_DIGEST else digest for digest in every])


def find(disk: DiskReader, size: int) -> Verity | None:
    """The tree behind `size` bytes of content; None where there is none.

    Raises:
        DiskError: it is damaged, or of a kind that is not ours.
    """
    if size % BLOCK_SIZE or not 0 < size <= disk.size - BLOCK_SIZE:
        return None
    (
        signature, version, hash_type, uuid, algorithm, data_block_size, hash_block_size, blocks, salt_size, salt,
    ) = c_verity.verity_sb.unpack_from(disk.read(size, BLOCK_SIZE))  # fmt: skip
    if signature != c_verity.SIGNATURE:
        return None
    kind = version, hash_type, algorithm.rstrip(b"\0"), data_block_size, hash_block_size
    if kind != (c_verity.VERSION, c_verity.HASH_TYPE_NORMAL, c_verity.ALGORITHM, BLOCK_SIZE, BLOCK_SIZE):
        raise DiskError("the disk's dm-verity tree is not one of SHA-256 over blocks of 4 KiB")
    layout = plan(size)
    if blocks != layout.blocks or layout.size > disk.size or salt_size > c_verity.MAX_SALT_SIZE:
        raise DiskError("the disk's dm-verity superblock is damaged")
    return Verity(uuid, salt[:salt_size], layout)


def root_hash(disk: DiskReader, verity: Verity) -> str:
    """The hash that stands for all of the disk, in hexadecimal. Believes the tree, and reads only its root."""
    top = verity.layout.levels[-1].offset if verity.layout.levels else 0
    return hashlib.sha256(verity.salt + disk.read(top, BLOCK_SIZE)).hexdigest()


def faults(disk: DiskReader, verity: Verity, expected: str | None = None) -> Iterator[str]:
    """What does not agree with the tree, one line each, at most MOST_FAULTS; `expected` is the root hash.

    Without it, content and tree are only compared with each other.

    Raises:
        DiskError: the disk cannot be read.
    """
    return islice(_faults(disk, verity, expected), MOST_FAULTS)


def _faults(disk: DiskReader, verity: Verity, expected: str | None) -> Iterator[str]:
    found = root_hash(disk, verity)
    if expected is not None and found != expected.lower():
        yield f"dm-verity: the root hash is {found}, not {expected[: 2 * DIGEST_SIZE]}"
    levels = verity.layout.levels
    for number in range(len(levels) - 1, 0, -1):
        yield from _differing(
            disk, verity.salt, f"hash block of level {number - 1}", levels[number - 1], levels[number]
        )
    if levels:
        yield from _differing(disk, verity.salt, "block", Level(0, verity.layout.blocks), levels[0])


def _differing(disk: DiskReader, salt: bytes, what: str, level: Level, above: Level) -> Iterator[str]:
    """The blocks of `level` whose digests `above` does not have."""
    salted = hashlib.sha256(salt)
    state = salted.copy()
    state.update(_ZERO_BLOCK)
    absent = state.digest()
    holes, all_absent = bytes(BLOCK_SIZE * HASHES_PER_BLOCK), absent * HASHES_PER_BLOCK
    for index in range(above.blocks):
        digests = disk.read(above.offset + index * BLOCK_SIZE, BLOCK_SIZE)
        first = index * HASHES_PER_BLOCK
        count = min(HASHES_PER_BLOCK, level.blocks - first)
        data = disk.read(level.offset + first * BLOCK_SIZE, count * BLOCK_SIZE)
        if digests == all_absent and data == holes:
            continue
        for number in range(count):
            state = salted.copy()
            state.update(data[number * BLOCK_SIZE : (number + 1) * BLOCK_SIZE])
            if state.digest() != digests[number * DIGEST_SIZE : (number + 1) * DIGEST_SIZE]:
                yield f"dm-verity: {what} {first + number} differs from its hash"
