import gzip
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from propolis.errors import ImageInvalid, ImageNotFound, InvalidArgument
from propolis.image.spool import spool, spooled
from propolis.progress import Silent

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DATA = os.urandom(1000) * 700


def pieces(data, size=777):
    return (memoryview(data[at : at + size]) for at in range(0, len(data), size))


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd.compress])
@pytest.mark.parametrize("size", [1, 3, 777, 1 << 20])
def test_a_copy_is_uncompressed_and_knows_its_digest(tmp_path, compress, size):
    data = DATA[:5000] if size < 10 else DATA
    copy = spool(pieces(compress(data), size), tmp_path, "it")
    assert copy.path.read_bytes() == data
    assert (copy.size, copy.digest) == (len(data), f"sha256:{hashlib.sha256(data).hexdigest()}")
    copy.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (gzip.compress(b""), "it is empty"),
        (gzip.compress(DATA)[:-5], "it cannot be uncompressed: .*too early"),
        (b"\x1f\x8b" + bytes(30), "it cannot be uncompressed"),
        (zstd.compress(DATA)[:-5], "it cannot be uncompressed"),
        (gzip.compress(bytes(10 << 20)), "larger than 1 MiB"),
        (bytes((1 << 20) + 1), "larger than 1 MiB"),
    ],
)
def test_what_is_none_is_refused_and_leaves_nothing(tmp_path, data, message):
    with pytest.raises(ImageInvalid, match=message):
        spool(pieces(data), tmp_path, "it", limit=1 << 20)
    assert not list(tmp_path.iterdir())


def test_what_breaks_off_leaves_nothing(tmp_path):
    def broken():
        yield memoryview(DATA)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spool(broken(), tmp_path, "it")
    assert not list(tmp_path.iterdir())


def test_a_copy_that_nobody_holds_any_more_goes(tmp_path):
    copy = spool(pieces(DATA), tmp_path, "it")
    assert len(list(tmp_path.iterdir())) == 1
    del copy
    assert not list(tmp_path.iterdir())


def test_a_killed_process_leaves_nothing_for_long(tmp_path):
    script = (
        "import os, pathlib, sys\n"
        "from propolis.image.spool import spool\n"
        f"spool(iter([memoryview(b'x' * 5000)]), pathlib.Path({str(tmp_path)!r}), 'it')\n"
        "copy = spool(iter([memoryview(b'x' * 5000)]), pathlib.Path(sys.argv[1]), 'it')\n"
        "os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == 9
    assert len(list(tmp_path.iterdir())) == 1
    other = spool(pieces(DATA), tmp_path, "it")
    assert list(tmp_path.iterdir()) == [other.path]
    mine = spool(pieces(DATA), tmp_path, "it")
    assert other.path.exists()
    mine.close()
    other.close()


@pytest.fixture
def standard_input():
    """Makes standard input what it is given."""
    kept = os.dup(0)

    def become(descriptor):
        os.dup2(descriptor, 0)
        os.close(descriptor)

    yield become
    os.dup2(kept, 0)
    os.close(kept)


def test_standard_input_is_read_to_its_end(tmp_path, standard_input):
    (tmp_path / "a").write_bytes(gzip.compress(DATA))
    standard_input(os.open(tmp_path / "a", os.O_RDONLY | getattr(os, "O_BINARY", 0)))
    copy = spooled(Path("-"), tmp_path / "spool")
    assert copy.path.read_bytes() == DATA
    with pytest.raises(ImageInvalid, match="standard input is empty"):
        spooled(Path("-"), tmp_path / "spool")
    copy.close()


def test_nobody_has_to_wait_for_input_that_does_not_come(tmp_path, standard_input):
    class Impatient(Silent):
        def advance(self, *_):
            raise KeyboardInterrupt

    ours, theirs = os.pipe()
    standard_input(ours)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        spooled(Path("-"), tmp_path, Impatient())
    assert time.monotonic() - began < 5
    assert not list(tmp_path.iterdir())
    os.close(theirs)


@pytest.mark.skipif(sys.platform == "win32", reason="terminals are no files there")
def test_a_terminal_is_no_archive(tmp_path, standard_input):
    import pty

    ours, theirs = pty.openpty()
    standard_input(theirs)
    with pytest.raises(InvalidArgument, match="is a terminal"):
        spooled(Path("-"), tmp_path)
    os.close(ours)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ImageNotFound, match="there is no"):
        spooled(tmp_path / "none", tmp_path)
