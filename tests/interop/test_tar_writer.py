"""What we write as a tar is judged by GNU tar, and by bsdtar's cousin in Python's library."""

import os
import subprocess
import tarfile

import pytest

from propolis.image.rootfs import push_tree
from propolis.image.tar_writer import TarWriter
from trees import walk


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    (root / "d").mkdir(parents=True)
    (root / "d" / ("n" * 120)).write_bytes(os.urandom(100_001))
    os.link(root / "d" / ("n" * 120), root / "z-linked")
    (root / "long-link").symlink_to("t" * 200)
    os.mkfifo(root / "pipe")
    (root / os.fsdecode(b"\xff\xfe")).touch()
    with (root / "sparse").open("wb") as file:
        file.truncate(5 << 30)
        file.seek(1 << 20)
        file.write(b"middle")
        file.seek(4 << 30)
        file.write(b"x" * 10_000)
    with (root / "all-hole").open("wb") as file:
        file.truncate(1 << 20)
    os.utime(root / "d", ns=(0, -1_500_000_000))
    os.utime(root / "pipe", ns=(0, 1 << 60))
    return root


def archive(source, name=b"tree"):
    pieces = []
    writer = TarWriter(pieces.append, name)
    push_tree(source, writer, writer.tell_extents)
    writer.finish()
    return b"".join(pieces)


def test_gnu_tar_unpacks_the_same_tree(tree, tmp_path):
    data = archive(tree)
    assert len(data) < 1 << 20, "holes are left out"
    (tmp_path / "out").mkdir()
    subprocess.run(
        ["tar", "-x", "--xattrs", "-p", "-f", "-"], cwd=tmp_path / "out", input=data, check=True, capture_output=True
    )
    with (tree / "sparse").open("rb") as ours, (tmp_path / "out/tree/sparse").open("rb") as theirs:
        for offset in (0, (1 << 20) - 8, (4 << 30) - 8):
            ours.seek(offset)
            theirs.seek(offset)
            assert ours.read(20_000) == theirs.read(20_000)
    assert (tmp_path / "out/tree/sparse").stat().st_size == 5 << 30
    (tree / "sparse").unlink(), (tmp_path / "out/tree/sparse").unlink()
    ours, theirs = walk(tree), walk(tmp_path / "out" / "tree")
    assert theirs == ours


def test_pythons_tarfile_reads_a_single_file(tree, tmp_path):
    (tmp_path / "a").write_bytes(archive(tree / "d" / ("n" * 120), b"renamed"))
    with tarfile.open(tmp_path / "a") as found:
        (member,) = found.getmembers()
        assert member.name == "renamed"
        assert found.extractfile(member).read() == (tree / "d" / ("n" * 120)).read_bytes()


def test_large_numbers_and_attributes(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    (tmp_path / "f").write_text("x")
    os.chown(tmp_path / "f", 4_000_000, 4_000_001)
    os.setxattr(tmp_path / "f", "user.key", b"a\0\n=b")
    (tmp_path / "out").mkdir()
    subprocess.run(
        ["tar", "-x", "--xattrs", "-f", "-"], cwd=tmp_path / "out", input=archive(tmp_path / "f", b"f"), check=True
    )
    status = (tmp_path / "out" / "f").stat()
    assert (status.st_uid, status.st_gid) == (4_000_000, 4_000_001)
    assert os.getxattr(tmp_path / "out" / "f", "user.key") == b"a\0\n=b"
