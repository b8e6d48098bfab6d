"""A machine's own disk is sound and small, and bears being filled by the kernel."""

import errno
import os
import shutil
import stat

import pytest

from disks import check, mounted
from propolis.disk.writable import make_writable
from propolis.spec import DiskFormat

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root"),
    pytest.mark.skipif(shutil.which("e2fsck") is None, reason="e2fsprogs is not installed"),
]
SIZES = [16 << 20, 127 << 20, 128 << 20, (128 << 20) + 4096, 1 << 30, 8 << 30, 64 << 30, 1 << 40]


@pytest.mark.parametrize("size", SIZES)
def test_disks_of_any_size_are_sound_small_and_hold_what_is_needed(tmp_path, size):
    disk = tmp_path / "disk"
    make_writable(disk, DiskFormat.RAW, {".propolis_init.json": b"{}" * 3000, "empty": b""}, size=size)
    check(disk)
    assert disk.stat().st_blocks * 512 <= 1 << 20
    assert size - (1 << 18) < disk.stat().st_size <= size
    with mounted(tmp_path / "mount", "-o", "loop", disk) as root:
        assert sorted(path.name for path in root.iterdir()) == sorted(
            [".propolis_init.json", "empty", "lost+found", "upper", "work"]
        )
        assert (root / ".propolis_init.json").read_bytes() == b"{}" * 3000
        assert stat.S_IMODE((root / ".propolis_init.json").stat().st_mode) == 0o600
        assert stat.S_IMODE((root / "upper").stat().st_mode) == 0o755
        (root / "upper" / "new").write_bytes(b"x" * 100_000)
    check(disk)


@pytest.mark.parametrize("size", [16 << 20, 200 << 20])
def test_a_disk_filled_to_the_brim_and_emptied_stays_sound(tmp_path, size):
    disk = tmp_path / "disk"
    make_writable(disk, DiskFormat.RAW, {"f": b"content"}, size=size)
    with mounted(tmp_path / "mount", "-o", "loop", disk) as root:
        for number in range(600):
            directory = root / "upper" / f"d{number % 10}"
            directory.mkdir(exist_ok=True)
            (directory / f"{number}-{'n' * 200}").write_bytes(b"x" * (number * 37 % 9000))
        with pytest.raises(OSError) as caught, (root / "upper" / "large").open("wb") as file:
            while True:
                file.write(bytes(1 << 20))
        assert caught.value.errno == errno.ENOSPC
        assert (root / "f").read_bytes() == b"content"
    check(disk)
    with mounted(tmp_path / "again", "-o", "loop", disk) as root:
        shutil.rmtree(root / "upper")
    check(disk)


def test_all_inodes_can_be_used(tmp_path):
    disk = tmp_path / "disk"
    make_writable(disk, DiskFormat.RAW, {}, size=16 << 20)
    with mounted(tmp_path / "mount", "-o", "loop", disk) as root:
        free = os.statvfs(root).f_ffree
        for number in range(free):
            (root / str(number)).touch()
        assert os.statvfs(root).f_ffree == 0
    check(disk)


def test_an_overlay_takes_it_for_its_upper_layer(tmp_path):
    disk = tmp_path / "disk"
    make_writable(disk, DiskFormat.RAW, {}, size=64 << 20)
    (tmp_path / "lower").mkdir()
    (tmp_path / "lower" / "f").write_text("low")
    with mounted(tmp_path / "mount", "-o", "loop", disk) as root:
        options = f"lowerdir={tmp_path}/lower,upperdir={root}/upper,workdir={root}/work"
        with mounted(tmp_path / "merged", "-t", "overlay", "-o", options, "overlay") as merged:
            (merged / "f").write_text("high")
            (merged / "g").mkdir()
        assert (root / "upper" / "f").read_text() == "high"
    assert (tmp_path / "lower" / "f").read_text() == "low"
    check(disk)
