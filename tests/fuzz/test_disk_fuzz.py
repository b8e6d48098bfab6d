"""Hostile entries and damaged disks: whatever comes, only errors of ours come out, soon, and what is made is sound."""

import contextlib
import os
import random
import shutil
import time

import pytest

from disks import check, file, other, read, write
from propolis.disk.below import Below
from propolis.disk.ext4.tree import MAX_FILE
from propolis.errors import DiskError, ImageError, ImageInvalid, LayerUnsupported, PropolisError
from propolis.tree import Entry, Kind

needs_e2fsck = pytest.mark.skipif(shutil.which("e2fsck") is None, reason="e2fsck is not installed")
DEEP = b"/".join([b"d"] * 2047)
LOOP = [other(Kind.SYMLINK, b"a", link=b"b"), other(Kind.SYMLINK, b"b", link=b"/a")]


@pytest.mark.parametrize(
    "items",
    [
        [file(b"n" * 256)],
        [file(b"")],
        [other(Kind.FIFO, b"")],
        [other(Kind.WHITEOUT, b"")],
        [other(Kind.SYMLINK, b"", link=b"x")],
        [other(Kind.HARDLINK, b"", link=b"x")],
        [other(Kind.HARDLINK, b"x", link=b"")],
        [other(Kind.HARDLINK, b"x", link=b"x")],
        [file(b"y"), other(Kind.WHITEOUT, b"x"), other(Kind.HARDLINK, b"z", link=b"x")],
        [other(Kind.DIRECTORY, b"d"), other(Kind.HARDLINK, b"x", link=b"d")],
        [other(Kind.DIRECTORY, b"d"), other(Kind.HARDLINK, b"d/x", link=b"d")],
        [other(Kind.HARDLINK, b"x", link=b"n" * 300)],
        [file(b"f"), file(b"f/below")],
        [file(b"f"), other(Kind.OPAQUE, b"f")],
        [file(b"f"), other(Kind.WHITEOUT, b"f/below")],
        [*LOOP, file(b"a/below")],
        [*LOOP, other(Kind.OPAQUE, b"b")],
        [other(Kind.SYMLINK, b"s", link=b"s/s"), file(b"s/below")],
        [other(Kind.SYMLINK, b"s", link=b"x" * 4096)],
        [other(Kind.SYMLINK, b"s", link=b"")],
        [other(Kind.SYMLINK, b"s", link=b"n" * 256), file(b"s/f")],
    ],
)
def test_what_cannot_be_is_the_images_fault(tmp_path, items):
    with pytest.raises(ImageInvalid, match="layer it"):
        write(tmp_path / "disk", items)


@pytest.mark.parametrize(
    "item",
    [
        file(b"f", MAX_FILE + 1),
        file(b"f", uid=1 << 32),
        file(b"f", gid=-1),
        other(Kind.BLOCK, b"f", device=(4096, 0)),
        other(Kind.CHARACTER, b"f", device=(0, 1 << 20)),
        file(b"f", xattrs={b"user." + b"n" * 256: b""}),
        file(b"f", xattrs={b"user.": b""}),
        file(b"f", xattrs={b"system.posix_acl_access": b"cut"}),
        file(b"f", xattrs={b"system.posix_acl_access": b"\2\0\0\0123"}),
        file(b"f", xattrs={b"system.posix_acl_access": b"\1\0\0\0"}),
    ],
)
def test_what_ext4_cannot_hold_names_layer_and_file(tmp_path, item):
    with pytest.raises(LayerUnsupported, match=r"layer it: .*f"):
        write(tmp_path / "disk", [item])


@needs_e2fsck
def test_deep_and_long_paths(tmp_path):
    items = [file(DEEP, b"x"), other(Kind.HARDLINK, b"link", link=DEEP), file(b"/".join([b"n" * 255] * 15), b"y")]
    check(write(tmp_path / "disk", items))
    assert DEEP in read(tmp_path / "disk")


@needs_e2fsck
def test_symbolic_links_never_lead_out_of_the_root(tmp_path):
    check(
        write(
            tmp_path / "disk",
            [
                other(Kind.SYMLINK, b"up", link=b"../../../.."),
                other(Kind.SYMLINK, b"d/rooted", link=b"/../d/./"),
                file(b"up/f", b"1"),
                file(b"d/rooted/g", b"2"),
                file(b"up/up/d/rooted/rooted/h", b"3"),
            ],
        )
    )
    assert {b"f", b"d/g", b"d/h"} <= read(tmp_path / "disk").keys()


@needs_e2fsck
def test_a_directory_by_two_names_is_forgotten_with_both(tmp_path):
    """What is known of the way through a link may not outlive the link, or the directory."""
    check(
        write(
            tmp_path / "disk",
            [
                other(Kind.SYMLINK, b"s", link=b"d"),
                other(Kind.DIRECTORY, b"s/sub"),
                file(b"s/sub/old", b"x"),
                file(b"d/sub", b"a file"),
                other(Kind.DIRECTORY, b"d/sub"),
                file(b"s/sub/new", b"y"),
                other(Kind.DIRECTORY, b"s"),
                file(b"s/sub/apart", b"z"),
            ],
        )
    )
    assert {path for path in read(tmp_path / "disk") if path.count(b"/") == 2} == {b"d/sub/new", b"s/sub/apart"}


def test_replacing_directories_over_and_over_takes_no_longer_than_writing_them(tmp_path):
    def items():
        for number in range(5000):
            yield other(Kind.DIRECTORY, b"other/%d" % number)
            yield other(Kind.DIRECTORY, b"d")
            yield other(Kind.DIRECTORY, b"d/deep")
            yield file(b"d", b"x")

    started = time.process_time()
    write(tmp_path / "disk", items())
    assert time.process_time() - started < 5


def test_a_long_chain_of_links_to_what_comes_later_takes_no_longer_than_as_many_links(tmp_path):
    """Each waits for the next: ten seconds, when all that waited was looked through for each."""
    links = [other(Kind.HARDLINK, b"%d" % number, link=b"%d" % (number + 1)) for number in range(20_000)]
    started = time.process_time()
    write(tmp_path / "disk", [*links, file(b"20000", b"x")])
    assert time.process_time() - started < 5


@pytest.mark.parametrize("apart", [1, 500])
def test_archives_that_come_back_to_every_directory_are_not_packed_in_vain(tmp_path, monkeypatch, apart):
    """Whatever the order of the entries, the time is one for each."""
    monkeypatch.setattr("propolis.disk.ext4.tree.MOST_OBJECTS", 100)
    items = [file(b"d%d/%d" % (number // apart % 500, number), b"x") for number in range(20_000)]
    started = time.process_time()
    disk = write(tmp_path / "disk", items)
    assert time.process_time() - started < 5
    monkeypatch.setattr("propolis.disk.ext4.tree.MOST_OBJECTS", 1 << 20)
    assert write(tmp_path / "objects", items).read_bytes() == disk.read_bytes()


@needs_e2fsck
@pytest.mark.parametrize("seed", range(25))
def test_hostile_sequences_give_a_sound_disk_or_an_error_of_ours(tmp_path, seed, monkeypatch):
    chance = random.Random(seed)
    monkeypatch.setattr("propolis.disk.ext4.tree.MOST_OBJECTS", chance.choice([0, 3, 1000]))
    names = [b"a", b"b", b"c", b"..", b".", b"", b"a/b", b"a/b/c", b"b/a/c", b"\xff" * 255, b"x" * 256]
    items = []
    for _ in range(chance.choice([3, 6, 12])):
        kind = chance.choice(list(Kind))
        pieces = [chance.choice([1, 5000, b"x" * 5000])] if kind is Kind.FILE else []
        size = sum(piece if isinstance(piece, int) else len(piece) for piece in pieces)
        entry = Entry(
            kind, chance.choice(names[:3] + names[6:]), size=size, link=chance.choice(names),
            mode=chance.randrange(4096), uid=chance.choice([0, 1 << 31, 0xFFFFFFFF]),
            mtime_ns=chance.choice([0, -1, 1 << 62, -(1 << 63)]),
            device=chance.choice([(0, 0), (4095, 0), (0, 0xFFFFF)]),
            xattrs=chance.choice([{}, {b"trusted.overlay.opaque": b"y"}, {b"user.x": b"y" * 3000}]),
        )  # fmt: skip
        items.append((entry, pieces))
    try:
        check(write(tmp_path / "disk", items))
    except (ImageError, DiskError) as error:
        assert "layer it" in str(error)


def test_a_damaged_disk_gives_a_disk_error_or_wrong_answers(tmp_path):
    sound = write(
        tmp_path / "sound",
        [
            file(b"d/f", b"x" * 9000, 20000, b"y", xattrs={b"user.a": b"b" * 500}),
            other(Kind.SYMLINK, b"s", link=b"t" * 100),
            file(b"many", *[b"x" * 4096, 4096] * 9, xattrs={b"system.posix_acl_access": b"\2\0\0\0\2\0\7\0\1\0\0\0"}),
        ],
    ).read_bytes()
    chance, outcomes = random.Random(1), {"answers": 0, "errors": 0}
    interesting = [at for at in range(0, len(sound), 4) if any(sound[at : at + 4])]
    damaged = tmp_path / "damaged"
    for _ in range(300):
        content = bytearray(sound)
        for _ in range(chance.randint(1, 3)):
            at = chance.choice(interesting) + chance.randrange(4)
            content[at] = chance.choice([0, 0xFF, content[at] ^ 1 << chance.randrange(8)])
        damaged.write_bytes(content[: len(content) if chance.random() < 0.9 else chance.randrange(len(content))])
        with contextlib.closing(Below(lambda: [damaged])) as below:
            try:
                for path in (b"d/f", b"s", b"many", b"d", b"none/there"):
                    below.node(path)
                    for piece, _ in zip(below.content(path), range(50), strict=False):
                        assert isinstance(piece, int | bytes)
                outcomes["answers"] += 1
            except DiskError as error:
                assert os.fspath(damaged) in str(error)
                outcomes["errors"] += 1
            except PropolisError as error:
                pytest.fail(f"not a DiskError: {error}")
    assert min(outcomes.values()) > 5
