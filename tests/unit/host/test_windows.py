import os
import subprocess
import sys
import threading
import time

import pytest

from propolis.errors import DiskError
from propolis.host import system, windows
from propolis.host.files import locked, stage, storage_errors, sweep, write_atomically
from propolis.host.win32 import _ffi

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def child():
    with subprocess.Popen(SLEEPER) as process:
        yield process
        process.kill()


def hold(path, seconds, *, share):
    """Open `path` as a scanner does, for that long."""
    handle = _ffi.create_file(str(path), _ffi.GENERIC_READ, share, _ffi.OPEN_EXISTING)
    timer = threading.Timer(seconds, lambda: _ffi.close_handle(handle))
    timer.start()
    return timer


def test_a_process_has_one_start_until_it_ends(child):
    start = system.process_start(child.pid)
    assert start is not None
    assert start == system.process_start(child.pid) != system.process_start(os.getpid())
    child.kill()
    child.wait()
    assert system.process_start(child.pid) is None


def test_a_process_is_killed_and_a_dead_one_left_alone(child):
    system.kill(child.pid)
    assert child.wait(20) == 1
    system.kill(child.pid)
    system.kill_group(child.pid)
    system.kill(0)
    assert system.process_start(0x7FFFFFF0) is None


def test_what_a_process_takes():
    assert 1 << 20 < system.resident_bytes(os.getpid()) < 4 << 30
    assert system.resident_bytes(0x7FFFFFF0) == 0


def test_memory_and_boot_are_told():
    assert 1 << 28 < system.memory_bytes() < 1 << 46
    before = system.boot_id()
    time.sleep(0.05)
    assert before == system.boot_id()
    told = subprocess.run(
        [sys.executable, "-c", "from propolis.host import system; print(system.boot_id())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == before


def test_a_lock_holds_beyond_a_gibibyte_of_content(tmp_path):
    with stage(tmp_path / "disk") as staged, staged.path.open("r+b") as other:
        other.seek(1 << 30)
        other.write(b"x" * 10)  # where a lock would deny it
        other.flush()
        descriptor = windows.open_file(staged.path, create=False)
        assert not system.lock_file(descriptor, wait=False)
        os.close(descriptor)
    assert (tmp_path / "disk").stat().st_size == (1 << 30) + 10


def test_a_lock_is_heard_of_by_another_process(tmp_path):
    program = (
        "import sys, pathlib, time; from propolis.host.files import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path / "lock"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline().strip() == b"locked"
        descriptor = windows.open_file(tmp_path / "lock", create=False)
        assert not system.lock_file(descriptor, wait=False)
        holder.kill()
        holder.wait()
        assert system.lock_file(descriptor, wait=True)
        os.close(descriptor)


def test_a_file_is_replaced_as_soon_as_a_scanner_lets_go(tmp_path):
    write_atomically(tmp_path / "file", b"old")
    scanner = hold(tmp_path / "file", 0.5, share=_ffi.FILE_SHARE_READ)
    write_atomically(tmp_path / "file", b"new")
    scanner.join()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_who_waits_for_a_scanner_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "_PATIENCE", 0.2)
    write_atomically(tmp_path / "file", b"old")
    scanner = hold(tmp_path / "file", 120, share=_ffi.FILE_SHARE_READ)
    with pytest.raises(Exception, match="file"):
        write_atomically(tmp_path / "file", b"new")
    assert scanner.is_alive()
    scanner.cancel()
    scanner.function()
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_tree_goes_as_soon_as_nobody_has_it_open(tmp_path):
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "disk").write_bytes(b"x")
    machine = hold(tmp_path / "tree" / "deep" / "disk", 0.5, share=_ffi.FILE_SHARE_READ)
    system.remove_tree(tmp_path / "tree")
    machine.join()
    assert not (tmp_path / "tree").exists()
    system.remove_tree(tmp_path / "tree")


def test_a_file_goes_as_soon_as_nobody_has_it_open(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    reader = hold(tmp_path / "file", 0.5, share=_ffi.FILE_SHARE_READ)
    system.remove_file(tmp_path / "file")
    reader.join()
    assert not (tmp_path / "file").exists()
    system.remove_file(tmp_path / "file")


def test_a_path_that_is_too_long_is_told(tmp_path):
    long = tmp_path / ("d" * 100) / ("e" * 100) / ("f" * 100)
    with pytest.raises(DiskError, match="more than 248 characters") as caught, storage_errors(long):
        raise OSError(0, "too long", str(long), 206)
    assert "PROPOLIS_CACHE" in caught.value.hint


@pytest.mark.parametrize("name", ["Jürgen Müßig", "пользователь", "利用者", "a & b (c)", "😀"])
def test_names_in_any_script(tmp_path, name):
    target = tmp_path / name / f"{name}.vhdx"
    write_atomically(target, b"content")
    assert target.read_bytes() == b"content"
    assert sweep(target.parent) == 0
    with locked(target.parent / "lock"):
        pass
    system.remove_tree(target.parent)
    assert not target.parent.exists()
