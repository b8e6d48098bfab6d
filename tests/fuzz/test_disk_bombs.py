"""Archives made to fill memory or disk: refused, or harmless; in a process of its own, whose memory is looked at."""

import gzip
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

PROPOLIS = Path(sys.executable).with_name("propolis")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
MEASURED = """
import re, sys
from pathlib import Path
from propolis.cli.main import run
code = run(sys.argv[1:])
print(int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
sys.exit(code)
"""


def build(path, tmp_path):
    """Build a disk; exit code, complaint, peak memory in MiB."""
    command = [sys.executable, "-c", MEASURED, "disk", "build", "-q", path, "-o", tmp_path / "out.raw"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr, int(done.stdout.split()[-1])


def packed(path, *entries):
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, attributes in entries:
            entry = tarfile.TarInfo(name)
            for attribute, value in attributes.items():
                setattr(entry, attribute, value)
            tar.addfile(entry)
    return path


def test_a_ratio_bomb_of_zeros_costs_neither_memory_nor_disk(tmp_path):
    """Four gigabytes in four megabytes: holes, which cost nothing."""
    with gzip.open(tmp_path / "bomb.tar.gz", "wb", compresslevel=1) as file:
        entry = tarfile.TarInfo("zeros")
        entry.size = 4 << 30
        file.write(entry.tobuf(tarfile.GNU_FORMAT))
        piece = bytes(16 << 20)
        for _ in range(256):
            file.write(piece)
        file.write(bytes(1024))
    code, complaint, memory = build(tmp_path / "bomb.tar.gz", tmp_path)
    assert code == 0, complaint
    assert memory <= 150
    assert (tmp_path / "out.raw").stat().st_blocks * 512 < 1 << 20


def test_a_name_of_100_kilobytes(tmp_path):
    code, complaint, memory = build(packed(tmp_path / "t.tar", ("n" * 100_000, {})), tmp_path)
    assert code == 125
    assert "more than 255 bytes" in complaint
    assert len(complaint) < 1000
    assert memory <= 150


def test_too_many_links_to_one_file(tmp_path):
    """A million of them: more than an inode can have."""
    path = tmp_path / "t.tar"
    with path.open("wb") as file:
        file.write(tarfile.TarInfo("f").tobuf(tarfile.USTAR_FORMAT))
        link = tarfile.TarInfo("l")
        link.type, link.linkname = tarfile.LNKTYPE, "f"
        for number in range(70_000):
            link.name = f"l{number}"
            file.write(link.tobuf(tarfile.USTAR_FORMAT))
        file.write(bytes(1024))
    code, complaint, memory = build(path, tmp_path)
    assert code == 125
    assert "more than 65000 hard links" in complaint
    assert memory <= 150


def test_a_path_as_deep_as_can_be(tmp_path):
    deep = "/".join(["d"] * 2000)
    assert build(packed(tmp_path / "t.tar", (deep, {})), tmp_path)[0] == 0
    code, complaint, _ = build(packed(tmp_path / "t.tar", ("/".join(["d"] * 3000), {})), tmp_path)
    assert (code, "path of more than 4095" in complaint) == (125, True)


@pytest.mark.parametrize("name", ["../climbs", "a/../../climbs", "/../climbs"])
def test_paths_that_climb(tmp_path, name):
    code, complaint, _ = build(packed(tmp_path / "t.tar", (name, {})), tmp_path)
    assert (code, "climbs above the root" in complaint) == (125, True)


@pytest.mark.parametrize("size", [1 << 43, (1 << 62) - 1])
def test_a_size_that_lies(tmp_path, size):
    path = tmp_path / "t.tar"
    entry = tarfile.TarInfo("f")
    entry.size = size
    path.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + b"little" + bytes(506))
    code, complaint, memory = build(path, tmp_path)
    assert code == 125
    assert "not possible" in complaint or "truncated" in complaint
    assert memory <= 150


def test_a_sparse_file_of_a_terabyte_is_a_hole(tmp_path):
    path = tmp_path / "t.tar"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("huge")
        entry.pax_headers = {"GNU.sparse.map": f"{(1 << 40) - 4096},1", "GNU.sparse.size": str((1 << 40) - 4095)}
        entry.size = 1
        tar.addfile(entry, io.BytesIO(b"x"))
    path.write_bytes(buffer.getvalue())
    code, complaint, memory = build(path, tmp_path)
    assert code == 0, complaint
    assert memory <= 150
    assert (tmp_path / "out.raw").stat().st_size < 1 << 20


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", full], check=True)
    try:
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "f").write_bytes(os.urandom(3 << 20))
        command = [PROPOLIS, "disk", "build", "-q", tmp_path / "d", "-o", full / "out.raw"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 125
        assert "no space left" in done.stderr
        assert list(full.iterdir()) == []
        subprocess.run(["mount", "-o", "remount,ro", full], check=True)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, "Read-only" in done.stderr) == (125, True)
    finally:
        subprocess.run(["umount", full], check=True)
