"""Layers' disks are sound to e2fsck, and the kernel shows in them what was pushed, attribute by attribute."""

import contextlib
import itertools
import os
import re
import shutil
import stat
import struct
import subprocess
from pathlib import Path

import pytest

from disks import check, file, mounted, other, write
from propolis.disk.below import Below
from propolis.errors import LayerUnsupported
from propolis.tree import Kind

BLOCK = 4096
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root"),
    pytest.mark.skipif(shutil.which("e2fsck") is None, reason="e2fsprogs is not installed"),
]


@pytest.fixture
def shown(tmp_path):
    """Makes a disk of items; its tree, mounted read-only, after e2fsck found it sound."""
    numbers = itertools.count()
    with contextlib.ExitStack() as mounts:

        def show(items):
            number = next(numbers)
            disk = write(tmp_path / f"disk{number}", items)
            check(disk)
            return mounts.enter_context(mounted(tmp_path / f"mount{number}", "-o", "loop,ro", disk)) / "tree"

        yield show


def totals(disk):
    text = subprocess.run(["dumpe2fs", "-h", disk], capture_output=True, text=True, check=True).stdout
    return {key: value.strip() for key, value in re.findall(r"^([^:\n]+):(.*)$", text, re.MULTILINE)}


def test_files_of_every_size_and_their_owners_modes_and_times(shown):
    sizes = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 1 << 18, (1 << 18) + 1, 300_001]
    times = [0, 1, -1, -(10**9), -(1 << 31) * 10**9, (1 << 31) * 10**9 + 5, 1_700_000_000_123_456_789]
    contents = {b"f%d" % size: os.urandom(size) for size in sizes}
    tree = shown(
        [
            file(name, content, mode=0o4751, uid=70000, gid=0xFFFFFFFE, mtime_ns=mtime)
            for (name, content), mtime in zip(contents.items(), [*times, times[-1]], strict=True)
        ]
    )
    for (name, content), mtime in zip(contents.items(), [*times, times[-1]], strict=True):
        path = os.fsencode(tree) + b"/" + name
        status = os.lstat(path)
        assert Path(os.fsdecode(path)).read_bytes() == content
        assert (status.st_uid, status.st_gid, status.st_mtime_ns) == (70000, 0xFFFFFFFE, mtime)
        assert stat.S_IMODE(status.st_mode) == 0o4751


def test_times_beyond_what_ext4_holds_are_its_first_and_last(shown):
    tree = shown([file(b"early", mtime_ns=-(1 << 62)), file(b"late", mtime_ns=(1 << 34) * 10**9)])
    assert (tree / "early").stat().st_mtime == -(1 << 31)
    assert (tree / "late").stat().st_mtime == (1 << 34) - (1 << 31) - 1


def test_symbolic_links_up_to_the_longest(shown):
    targets = {f"l{length}": "t" * length for length in (1, 59, 60, 255, 4095)}
    attributes = {b"trusted.a": b"value", b"security.b": b"v" * 200}
    tree = shown([other(Kind.SYMLINK, n.encode(), link=t.encode(), xattrs=attributes) for n, t in targets.items()])
    for name, target in targets.items():
        assert (tree / name).readlink() == Path(target)
        assert os.getxattr(tree / name, "security.b", follow_symlinks=False) == b"v" * 200


def test_devices_fifos_and_names_that_are_not_text(shown):
    numbers = [(1, 3), (0, 5), (255, 255), (256, 1), (8, 256), (259, 300), (0xFFF, 0xFFFFF)]
    tree = shown(
        [other(Kind.CHARACTER, b"c%d-%d" % number, device=number) for number in numbers]
        + [other(Kind.BLOCK, b"b%d-%d" % number, device=number) for number in numbers]
        + [other(Kind.FIFO, b"\xff\xfe pipe"), file(b"\x01\n" + b"n" * 253, b"x")]
    )
    for major, minor in numbers:
        for letter, kind in (("c", stat.S_ISCHR), ("b", stat.S_ISBLK)):
            status = (tree / f"{letter}{major}-{minor}").lstat()
            assert kind(status.st_mode)
            assert (os.major(status.st_rdev), os.minor(status.st_rdev)) == (major, minor)
    assert {b"\xff\xfe pipe", b"\x01\n" + b"n" * 253} <= {os.fsencode(path.name) for path in tree.iterdir()}


def test_attributes_in_the_inode_and_in_a_block(shown):
    kinds = {
        "few": {b"user.a": b"1", b"security.x": b"", b"trusted.y": b"\0\xff"},
        "many": {b"user.n%03d" % n: b"v" * (n % 9) for n in range(100)},
        "large": {b"user.large": os.urandom(3900)},
        "text": {"user.ä".encode(): b"x" * 90, b"user.\x7f\x80": b"y"},
    }
    tree = shown([file(name.encode(), b"x", xattrs=attributes) for name, attributes in kinds.items()])
    for name, attributes in kinds.items():
        path = os.fsencode(tree / name)
        assert {key.encode(errors="surrogateescape") for key in os.listxattr(path)} == attributes.keys()
        assert all(os.getxattr(path, key) == value for key, value in attributes.items())


def test_attributes_that_do_not_fit_name_the_file(tmp_path):
    for attributes in ({b"user.a": bytes(4090)}, {b"user." + b"n" * 256: b""}):
        with pytest.raises(LayerUnsupported, match="layer it: tree/d/f: "):
            write(tmp_path / "disk", [file(b"d/f", xattrs=attributes)])


@pytest.mark.skipif(shutil.which("getcap") is None, reason="libcap2-bin is not installed")
def test_capabilities(shown):
    value = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
    tree = shown([file(b"ping", b"x", xattrs={b"security.capability": value})])
    told = subprocess.run(["getcap", tree / "ping"], capture_output=True, text=True, check=True).stdout
    assert told.split()[-1] == "cap_net_raw=ep"


def test_access_lists(shown):
    def listed(*entries):
        return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)

    nobody = 0xFFFFFFFF
    access = listed((1, 6, nobody), (2, 4, 70000), (4, 4, nobody), (8, 1, 9), (16, 5, nobody), (32, 0, nobody))
    tree = shown(
        [
            other(Kind.DIRECTORY, b"d", mode=0o750, xattrs={b"system.posix_acl_default": access}),
            file(b"d/f", b"x", mode=0o650, xattrs={b"system.posix_acl_access": access}),
        ]
    )
    assert os.getxattr(tree / "d/f", "system.posix_acl_access") == access
    assert os.getxattr(tree / "d", "system.posix_acl_default") == access
    if shutil.which("getfacl"):
        told = subprocess.run(["getfacl", "-n", "-p", tree / "d/f"], capture_output=True, text=True, check=True).stdout
        assert {"user:70000:r--", "group:9:--x", "mask::r-x", "other::---"} <= set(told.split())


@pytest.mark.parametrize("count", [4, 5, 340, 341, 1360, 1361, 1700])
def test_files_of_many_extents(shown, count):
    pieces = [piece for number in range(count) for piece in (BLOCK, bytes([number % 255 + 1]) * BLOCK)]
    tree = shown([file(b"f", *pieces)])
    whole = b"".join(piece if isinstance(piece, bytes) else bytes(piece) for piece in pieces)
    assert (tree / "f").read_bytes() == whole
    assert count * 8 <= (tree / "f").stat().st_blocks <= count * 8 + 8 * 8


def test_an_extent_tree_of_two_levels(shown):
    """More than four blocks of extents: 4 * 340 is as much as one level holds."""
    pieces = [piece for number in range(2000) for piece in (b"%04d" % number, 2 * BLOCK - 4)]
    tree = shown([file(b"f", *pieces)])
    with (tree / "f").open("rb") as opened:
        for number in (0, 1, 339, 340, 1359, 1360, 1999):
            assert os.pread(opened.fileno(), 5, number * 2 * BLOCK) == b"%04d\0" % number


def test_holes_anywhere(shown):
    cases = [
        [100, b"x" * 10, 4000, b"y" * 3, BLOCK * 5 + 7, b"z", 1],
        [b"x", 10 * BLOCK],
        [10 * BLOCK + 1],
        [b"x" * 5000, 100, b"y" * 5000, 8191, b"z" * 1],
        [BLOCK - 1, b"ab", BLOCK - 1, b"c"],
        [1] * 9 + [b"d"] * 9 + [BLOCK] * 3 + [b"e"],
    ]
    tree = shown([file(b"f%d" % number, *pieces) for number, pieces in enumerate(cases)])
    for number, pieces in enumerate(cases):
        expected = b"".join(piece if isinstance(piece, bytes) else bytes(piece) for piece in pieces)
        assert (tree / f"f{number}").read_bytes() == expected
    assert (tree / "f2").stat().st_blocks == 0


def test_a_file_larger_than_4_gib_that_is_nearly_all_hole(shown):
    far = (5 << 30) + 123
    tree = shown([file(b"f", b"start", far, b"end" * 2000, 1 << 40), file(b"g", b"g")])
    with (tree / "f").open("rb") as opened:
        assert os.pread(opened.fileno(), 6, 0) == b"start\0"
        assert os.pread(opened.fileno(), 6001, 5 + far) == b"end" * 2000 + b"\0"
        assert os.fstat(opened.fileno()).st_size == 5 + far + 6000 + (1 << 40)
        assert os.fstat(opened.fileno()).st_blocks <= 32
    assert (tree / "g").read_bytes() == b"g"


def test_a_contiguous_file_longer_than_one_extent_can_tell(shown):
    piece = os.urandom(1 << 18)
    tree = shown([file(b"f", *[piece] * 530)])
    assert (tree / "f").stat().st_size == 530 << 18
    with (tree / "f").open("rb") as opened:
        assert all(opened.read(1 << 18) == piece for _ in range(530))


def test_a_directory_of_50000_names(shown):
    tree = shown([file(b"d/name-%05d" % number) for number in range(50_000)])
    assert sorted(path.name for path in (tree / "d").iterdir()) == [f"name-{number:05}" for number in range(50_000)]


def test_65000_links_and_not_one_more(shown, tmp_path):
    items = [file(b"f", b"x"), *(other(Kind.HARDLINK, b"l%d" % number, link=b"f") for number in range(64_999))]
    assert (shown(items) / "f").stat().st_nlink == 65_000
    with pytest.raises(LayerUnsupported, match="f has more than 65000 hard links"):
        write(tmp_path / "more", [*items, other(Kind.HARDLINK, b"more", link=b"f")])


def test_more_subdirectories_than_a_link_count_holds(shown):
    tree = shown(other(Kind.DIRECTORY, b"d/%d" % number) for number in range(65_001))
    assert (tree / "d").stat().st_nlink == 1
    assert len(list((tree / "d").iterdir())) == 65_001


def test_what_is_replaced_gives_its_blocks_back(shown, tmp_path):
    large = os.urandom(50 * BLOCK)
    tree = shown(
        [
            file(b"f", large),
            file(b"d/deep/g", large),
            file(b"f", b"second"),
            file(b"d", b"a file now"),
            other(Kind.DIRECTORY, b"f"),
            file(b"f/h", large[:5000]),
            other(Kind.SYMLINK, b"d", link=b"f"),
            file(b"d/through", b"x"),
        ]
    )
    assert (tree / "f/h").read_bytes() == large[:5000]
    assert (tree / "f/through").read_bytes() == b"x"
    assert (tree / "d").readlink() == Path("f")
    told = totals(tmp_path / "disk0")
    assert int(told["Free blocks"]) >= 101
    assert int(told["Block count"]) * BLOCK == (tmp_path / "disk0").stat().st_size


def test_an_empty_layer_and_one_of_many_groups(shown, tmp_path):
    assert list(shown([]).iterdir()) == []
    piece = bytes(range(256)) * 1024
    shown([file(b"f%d" % number, *[piece] * 200) for number in range(6)])
    told = totals(tmp_path / "disk1")
    assert told["Filesystem state"] == "clean"
    assert "metadata_csum" in told["Filesystem features"]
    assert int(told["Inode count"]) - int(told["Free inodes"]) == 11 + 1 + 6
    assert int(told["Block count"]) > 2 * 32768


def test_overlayfs_shows_two_layers_with_whiteouts_and_opaque_directories(tmp_path):
    below = [
        file(b"gone", b"1"),
        file(b"kept", b"1"),
        file(b"opaque/hidden", b"1"),
        file(b"again/hidden", b"1"),
        file(b"merged/low", b"1"),
        file(b"replaced/hidden", b"1"),
        file(b"deep/er/linked", b"linked", uid=70000, xattrs={b"user.a": b"b" * 200}),
        other(Kind.SYMLINK, b"way", link=b"/deep/er"),
    ]
    above = [
        other(Kind.WHITEOUT, b"gone"),
        file(b"opaque/new", b"2"),
        other(Kind.OPAQUE, b"opaque"),
        other(Kind.WHITEOUT, b"again"),
        file(b"again/new", b"2"),
        file(b"merged/high", b"2"),
        file(b"replaced", b"2"),
        other(Kind.DIRECTORY, b"replaced"),
        file(b"only/here", b"2"),
        other(Kind.WHITEOUT, b"only/never"),
        other(Kind.WHITEOUT, b"opaque/never"),
        file(b"way/through", b"2"),
        other(Kind.HARDLINK, b"link", link=b"deep/er/linked"),
        other(Kind.HARDLINK, b"link2", link=b"way/through"),
    ]
    with overlaid(tmp_path, below, above) as root:
        assert tree_of(root) == {
            "again": ["new"],
            "deep": ["er"],
            "deep/er": ["linked", "through"],
            "merged": ["high", "low"],
            "only": ["here"],
            "opaque": ["new"],
            "replaced": [],
            "": ["again", "deep", "kept", "link", "link2", "merged", "only", "opaque", "replaced", "way"],
        }
        assert (root / "link").read_bytes() == b"linked"
        assert (root / "link").samefile(root / "deep/er/linked")
        assert (root / "link").stat().st_uid == 70000
        assert os.getxattr(root / "link", "user.a") == b"b" * 200
        assert (root / "link2").samefile(root / "deep/er/through")


def test_an_opaque_root_hides_all_that_is_below(tmp_path):
    below = [file(b"a", b"1"), file(b"d/x", b"1"), file(b"e/x", b"1"), file(b"f/x", b"1")]
    above = [file(b"d/y", b"2"), other(Kind.OPAQUE, b""), file(b"f", b"2"), file(b"g", b"2")]
    with overlaid(tmp_path, below, above) as root:
        assert tree_of(root) == {"": ["d", "f", "g"], "d": ["y"]}


@contextlib.contextmanager
def overlaid(directory, below, above):
    """The two layers as the guest stacks them."""
    low = write(directory / "low", below)
    with contextlib.closing(Below(lambda: [low])) as lower:
        high = write(directory / "high", above, lower=lower)
    with contextlib.ExitStack() as mounts:

        def mount(name, *arguments):
            return mounts.enter_context(mounted(directory / name, *arguments))

        points = []
        for disk in (high, low):
            check(disk)
            points.append(mount(f"{disk.name}.mounted", "-o", "loop,ro", disk) / "tree")
        writable = mount("writable", "-t", "tmpfs", "tmpfs")
        (writable / "upper").mkdir()
        (writable / "work").mkdir()
        options = f"lowerdir={points[0]}:{points[1]},upperdir={writable}/upper,workdir={writable}/work"
        yield mount("root", "-t", "overlay", "-o", options, "overlay")


def tree_of(root):
    """Directories by their path: the names in them, each of which can be looked up."""
    found = {}
    for directory, names, files in os.walk(root):
        assert all(os.path.lexists(f"{directory}/{name}") for name in files)
        found[os.path.relpath(directory, root).removeprefix(".")] = sorted([*names, *files])
    return found
