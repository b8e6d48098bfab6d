import os
import signal
import subprocess
import sys
import time

import pytest

from propolis.image.partial import PartialBlob, sweep


def names(directory):
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def add(blob, position, data):
    blob.write(position, data)
    blob.note(position, position + len(data))
    blob.ranges.add(position, position + len(data))


def test_what_was_noted_is_there_for_the_next_one(tmp_path):
    target = tmp_path / "sha256" / "abc"
    first = PartialBlob.open(target)
    assert not first.ranges
    add(first, 0, b"onetwo")
    add(first, 10, b"end")
    first.write(6, b"not noted, as if it had been killed")
    first.close()
    second = PartialBlob.open(target)
    assert list(second.ranges) == [(0, 6), (10, 13)]
    buffer = memoryview(bytearray(4))
    assert second.read_into(2, buffer) == 4
    assert bytes(buffer) == b"etwo"
    second.discard()
    assert names(target.parent) == []


def test_one_that_is_empty_leaves_nothing(tmp_path):
    PartialBlob.open(tmp_path / "abc").close()
    assert names(tmp_path) == []


def test_whole_it_becomes_the_blob(tmp_path):
    blob = PartialBlob.open(tmp_path / "abc")
    add(blob, 0, b"all of it")
    blob.keep(9)
    blob.close()
    assert names(tmp_path) == ["abc"]
    assert (tmp_path / "abc").read_bytes() == b"all of it"


def test_what_came_behind_its_end_is_not_kept(tmp_path):
    blob = PartialBlob.open(tmp_path / "abc")
    add(blob, 0, b"all of it, and what another image said would follow")
    blob.keep(9)
    assert (tmp_path / "abc").read_bytes() == b"all of it"


@pytest.mark.parametrize("lines", [b"0 9999999\n", b"0 5\n3 ", b"\xff\n-1 4\n0 5\n", b"0 5\n9 2\n" * 3])
def test_lines_that_nobody_wrote_so_count_as_far_as_they_make_sense(tmp_path, lines):
    blob = PartialBlob.open(tmp_path / "abc")
    add(blob, 0, b"bytes")
    blob.close()
    (tmp_path / ".partial-abc.ranges").write_bytes(lines)
    assert list(PartialBlob.open(tmp_path / "abc").ranges) == [(0, 5)]


def test_without_its_lines_it_is_begun_anew(tmp_path):
    blob = PartialBlob.open(tmp_path / "abc")
    add(blob, 0, b"bytes")
    blob.close()
    (tmp_path / ".partial-abc.ranges").unlink()
    assert not PartialBlob.open(tmp_path / "abc").ranges


def test_while_somebody_has_it_others_have_one_of_their_own(tmp_path):
    first, second = PartialBlob.open(tmp_path / "abc"), PartialBlob.open(tmp_path / "abc")
    add(first, 0, b"first")
    add(second, 0, b"second")
    second.close()
    first.close()
    first.close()
    assert names(tmp_path) == [".partial-abc", ".partial-abc.ranges"]
    again = PartialBlob.open(tmp_path / "abc")
    other = PartialBlob.open(tmp_path / "abc")
    assert list(again.ranges) == [(0, 5)]
    add(other, 0, b"other")
    other.keep(5)
    assert (tmp_path / "abc").read_bytes() == b"other"


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_it_survives_its_writer_and_its_lock_does_not(tmp_path):
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom propolis.image.partial import PartialBlob\n"
        "target = Path(sys.argv[1])\n"
        "for found in [PartialBlob.open(target), PartialBlob.open(target)]:\n"
        "    found.write(0, b'x' * 100_000)\n    found.note(0, 100_000)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "abc")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 4
    assert sweep(tmp_path) == 2, "of the one that nobody would look for"
    found = PartialBlob.open(tmp_path / "abc")
    assert list(found.ranges) == [(0, 100_000)]
    found.discard()
    assert names(tmp_path) == []


def test_old_ones_are_swept(tmp_path):
    for name in ("aaa", "bbb"):
        blob = PartialBlob.open(tmp_path / name)
        add(blob, 0, b"x")
        blob.close()
    weeks_ago = time.time() - 30 * 24 * 3600
    for name in (".partial-aaa", ".partial-aaa.ranges"):
        os.utime(tmp_path / name, (weeks_ago, weeks_ago))
    assert sweep(tmp_path) == 2
    assert names(tmp_path) == [".partial-bbb", ".partial-bbb.ranges"]


def test_an_old_one_that_somebody_has_come_back_for_is_not_swept(tmp_path):
    blob = PartialBlob.open(tmp_path / "aaa")
    add(blob, 0, b"x")
    blob.close()
    weeks_ago = time.time() - 30 * 24 * 3600
    for name in (".partial-aaa", ".partial-aaa.ranges"):
        os.utime(tmp_path / name, (weeks_ago, weeks_ago))
    back = PartialBlob.open(tmp_path / "aaa")
    assert sweep(tmp_path) == 0
    add(back, 1, b"y")
    back.keep(2)
    assert (tmp_path / "aaa").read_bytes() == b"xy"
