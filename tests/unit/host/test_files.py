import contextlib
import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from propolis.errors import DiskError, StorageFull
from propolis.host import system
from propolis.host.files import (
    STAGE_PREFIX,
    locked,
    stage,
    stage_directory,
    storage_errors,
    sweep,
    write_atomically,
)


def leftovers(directory):
    return [path.name for path in directory.iterdir() if path.name.startswith(STAGE_PREFIX)]


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path):
    target = tmp_path / "deep" / "file"
    write_atomically(target, b"one")
    with stage(target) as staged:
        os.write(staged.descriptor, b"two")
        assert target.read_bytes() == b"one"
    assert target.read_bytes() == b"two"
    assert not leftovers(target.parent)


def test_a_file_that_is_replaced_and_removed_meanwhile_is_read(tmp_path):
    target, over, counts = tmp_path / "file", threading.Event(), [0, 0]

    def change():
        while not over.is_set():
            write_atomically(target, b"x" * 5000)
            write_atomically(target, b"y" * 5000)
            system.remove_file(target)
            counts[0] += 1

    changer = threading.Thread(target=change)
    changer.start()
    try:
        until = time.monotonic() + 30
        while min(counts) < 20 and time.monotonic() < until:
            with contextlib.suppress(FileNotFoundError), os.fdopen(system.open_published(target), "rb") as file:
                assert file.read() in (b"x" * 5000, b"y" * 5000)
                counts[1] += 1
            time.sleep(0.005)  # Windows replaces nothing while somebody reads it
    finally:
        over.set()
        changer.join()
    assert min(counts) >= 20


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "file"
    write_atomically(target, b"old")
    with pytest.raises(KeyboardInterrupt), stage(target) as staged:
        os.write(staged.descriptor, b"half")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old"
    assert not leftovers(tmp_path)


def test_a_killed_writers_leftover_is_swept_and_a_living_ones_is_not(tmp_path):
    program = (
        "import os, sys, pathlib; from propolis.host.files import stage\n"
        "with stage(pathlib.Path(sys.argv[1])) as staged: os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "dead"], check=False)
    assert len(leftovers(tmp_path)) == 1
    with stage(tmp_path / "alive"):
        assert sweep(tmp_path) == 1
        assert len(leftovers(tmp_path)) == 1
    assert (tmp_path / "alive").exists()


@pytest.mark.parametrize("swept_before", [False, True])
def test_a_killed_writers_directory_goes_with_its_lock_and_a_living_ones_stays(tmp_path, swept_before):
    program = (
        "import os, sys, pathlib; from propolis.host.files import stage_directory\n"
        "with stage_directory(pathlib.Path(sys.argv[1])) as path: (path / 'x').touch(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "dead"], check=False)
    assert len(leftovers(tmp_path)) == 2
    if swept_before:
        assert sweep(tmp_path) == 1
    with stage_directory(tmp_path / "alive") as alive:
        (alive / "x").touch()
        with stage_directory(tmp_path / "other") as other:
            assert {path for path in tmp_path.iterdir() if path.is_dir()} == {alive, other}
        assert (alive / "x").exists()
        assert len(leftovers(tmp_path)) == 2
    assert not leftovers(tmp_path)


def test_a_living_writers_file_is_not_swept_while_it_is_made_nor_while_it_is_renamed(tmp_path):
    ended, before = threading.Event(), sys.getswitchinterval()

    def sweep_all_the_time():
        while not ended.is_set():
            sweep(tmp_path)

    thread = threading.Thread(target=sweep_all_the_time)
    thread.start()
    sys.setswitchinterval(1e-5)
    try:
        for number in range(500):  # one in ten was lost when the lock ended before the renaming
            write_atomically(tmp_path / "file", b"%d" % number, durable=False)
            assert (tmp_path / "file").read_bytes() == b"%d" % number
    finally:
        ended.set()
        thread.join()
        sys.setswitchinterval(before)
    assert not leftovers(tmp_path)


def test_what_only_looks_like_a_leftover_stays(tmp_path):
    token = "0123456789ab"
    (tmp_path / f"{STAGE_PREFIX}directory-{token}").mkdir()
    (tmp_path / f"{STAGE_PREFIX}of-somebody").write_text("mine")
    (tmp_path / "target").write_text("mine")
    (tmp_path / f"{STAGE_PREFIX}link-{token}").symlink_to("target")
    (tmp_path / f"{STAGE_PREFIX}of-somebody.d").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"{STAGE_PREFIX}link-{token}.d").symlink_to("elsewhere")
    before = sorted(tmp_path.iterdir())
    assert sweep(tmp_path) == 0
    with stage_directory(tmp_path / "x"):
        pass
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="becoming somebody else needs root")
def test_leftovers_of_others_are_theirs(tmp_path):
    """As in /tmp, where everybody's disks may be built."""
    path = tmp_path / f"{STAGE_PREFIX}disk-0123456789ab"
    path.write_text("theirs")
    path.chmod(0o600)
    program = (
        "import os, pathlib, sys; from propolis.host.files import sweep\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); raise SystemExit(sweep(pathlib.Path(sys.argv[1])))"
    )
    for directory in [tmp_path, *tmp_path.parents][:-2]:
        directory.chmod(directory.stat().st_mode | 0o005)
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True)
    assert path.exists()


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, StorageFull), (errno.EROFS, DiskError)])
def test_storage_faults_say_what_to_do(tmp_path, number, error):
    with pytest.raises(error) as caught, storage_errors(tmp_path / "x"):
        raise OSError(number, os.strerror(number))
    assert str(tmp_path / "x") in str(caught.value)
    assert caught.value.hint


def test_a_lock_lets_one_thread_in_at_a_time(tmp_path):
    inside, most = 0, 0
    guard = threading.Lock()

    def enter():
        nonlocal inside, most
        for _ in range(20):
            with locked(tmp_path / "lock"):
                with guard:
                    inside += 1
                    most = max(most, inside)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


@pytest.mark.skipif(sys.platform == "win32", reason="has no fork")
def test_a_forked_child_that_ends_leaves_its_parents_scratch_file(tmp_path):
    code = (
        "import os, pathlib, sys; from propolis.host.files import Scratch;"
        "mine = Scratch(pathlib.Path(sys.argv[1]), 'x'); child = os.fork(); child or sys.exit();"
        "os.waitpid(child, 0); print(mine.path.exists())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
    assert list(tmp_path.iterdir()) == []
