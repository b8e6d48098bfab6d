import os
import signal
import subprocess
import sys
import time

import pytest

from propolis.image.partial import PartialBlob, sweep


def names(directory):
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def test_what_was_added_is_there_for_the_next_one(tmp_path):
    target = tmp_path / "sha256" / "abc"
    first = PartialBlob.open(target)
    assert first.size == 0
    first.append(b"one")
    first.append(b"two")
    first.close()
    second = PartialBlob.open(target)
    assert second.size == 6
    buffer = memoryview(bytearray(10))
    assert second.read_into(2, buffer) == 4
    assert bytes(buffer[:4]) == b"etwo"
    second.append(b"!")
    second.discard()
    assert names(target.parent) == []


def test_one_that_is_empty_leaves_nothing(tmp_path):
    PartialBlob.open(tmp_path / "abc").close()
    assert names(tmp_path) == []


def test_only_one_at_a_time_has_it(tmp_path):
    first = PartialBlob.open(tmp_path / "abc")
    assert PartialBlob.open(tmp_path / "abc") is None
    first.append(b"x")
    first.close()
    first.close()
    assert PartialBlob.open(tmp_path / "abc").size == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_it_survives_its_writer_and_its_lock_does_not(tmp_path):
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom propolis.image.partial import PartialBlob\n"
        "found = PartialBlob.open(Path(sys.argv[1]))\nfound.append(b'x' * 100_000)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "abc")], check=False)
    assert done.returncode == -signal.SIGKILL
    found = PartialBlob.open(tmp_path / "abc")
    assert found.size == 100_000
    found.discard()


def test_old_ones_are_swept(tmp_path):
    for name in ("old", "new"):
        blob = PartialBlob.open(tmp_path / name)
        blob.append(b"x")
        blob.close()
    weeks_ago = time.time() - 30 * 24 * 3600
    os.utime(tmp_path / ".partial-old", (weeks_ago, weeks_ago))
    assert sweep(tmp_path) == 1
    assert names(tmp_path) == [".partial-new"]
