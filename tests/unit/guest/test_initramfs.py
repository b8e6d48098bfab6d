import os

import pytest

from propolis.errors import KernelNotFound, KernelUnsuitable
from propolis.guest import cpio, initramfs, kernel
from propolis.spec import Architecture


@pytest.fixture
def init(tmp_path, monkeypatch):
    """Another init than the packaged one; returns its file."""
    path = tmp_path / "own" / "init-x86_64"
    path.parent.mkdir()
    path.write_bytes(b"\x7fELF the first")
    monkeypatch.setenv("PROPOLIS_GUEST_INIT_DIR", str(path.parent))
    return path


@pytest.fixture
def ready(tmp_path, installed, init):
    return kernel.find_kernel(tmp_path / "cache", Architecture.X86_64, root=installed)


def test_it_holds_the_modules_and_init(ready):
    image, path = initramfs.boot_files(ready)
    data = path.read_bytes()
    assert image == ready.image
    assert data.startswith(ready.modules.read_bytes())
    for part in (b"modules/ext4.ko\0", b"modules/load\0", b"dev/console\0", b"init\0", b"\x7fELF the first"):
        assert part in data


def test_it_is_made_once(ready):
    _, path = initramfs.boot_files(ready)
    before = path.stat().st_ino
    assert initramfs.boot_files(ready)[1] == path
    assert path.stat().st_ino == before


def test_another_init_makes_another_and_the_old_one_goes_when_out_of_use(ready, init):
    _, first = initramfs.boot_files(ready)
    init.write_bytes(b"\x7fELF the second")
    _, second = initramfs.boot_files(ready)
    assert first.exists()  # a machine may just be starting from it
    os.utime(first, (0, 0))
    init.write_bytes(b"\x7fELF the third")
    _, third = initramfs.boot_files(ready)
    assert len({first, second, third}) == 3
    assert not first.exists()
    assert second.exists()


def test_the_users_archive_comes_first_so_that_ours_wins(ready, tmp_path):
    initrd = tmp_path / "initrd"
    initrd.write_bytes(b"\x1f\x8b" + b"x" * 7)
    _, path = initramfs.boot_files(ready, initrd=initrd)
    data = path.read_bytes()
    assert data.startswith(initrd.read_bytes() + bytes(3) + b"070701")
    assert path != initramfs.boot_files(ready)[1]


def test_what_the_kernel_cannot_unpack_is_refused(ready, tmp_path):
    (tmp_path / "text").write_text("hello")
    with pytest.raises(KernelUnsuitable, match="not an initrd"):
        initramfs.boot_files(ready, initrd=tmp_path / "text")
    with pytest.raises(KernelNotFound, match="absent"):
        initramfs.boot_files(ready, initrd=tmp_path / "absent")
    with pytest.raises(KernelNotFound, match=r"directory|denied"):
        initramfs.boot_files(ready, initrd=tmp_path)


def test_joined_archives_start_at_multiples_of_four():
    assert initramfs.joined(b"abc", b"defg", b"h") == b"abc\0defgh\0\0\0"


def test_init_can_be_executed():
    assert b"000081ED" in initramfs.contents(b"x")
    assert initramfs.contents(b"x") != cpio.archive([])
