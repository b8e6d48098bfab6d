import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from propolis.errors import CacheBusy
from propolis.state import leases
from propolis.state.leases import Lease, collecting, held


def names(cache):
    with collecting(cache):
        return sorted(tuple(sorted(lease.names)) for lease in held(cache))


def test_a_lease_lasts_until_it_is_released(tmp_path):
    with Lease(tmp_path, "m") as lease:
        assert names(tmp_path) == [()]
        lease.add(["b", "a"])
        lease.add(["c"])
        assert names(tmp_path) == [("a", "b", "c")]
        with collecting(tmp_path):
            assert [found.machine for found in held(tmp_path)] == ["m"]
    assert names(tmp_path) == []
    assert list((tmp_path / "leases").iterdir()) == []
    lease.take()
    lease.add(["d"])  # a thread that nobody waits for any more
    assert names(tmp_path) == []


def test_an_empty_one_tells_since_when_it_is(tmp_path):
    before = tmp_path / "before"
    before.write_bytes(b"")
    time.sleep(0.05)
    with Lease(tmp_path):
        time.sleep(0.05)
        after = tmp_path / "after"
        after.write_bytes(b"")
        with collecting(tmp_path):
            (found,) = held(tmp_path)
        assert before.stat().st_mtime < found.since <= after.stat().st_mtime


def test_one_that_cannot_be_read_protects_everything(tmp_path):
    with Lease(tmp_path):
        (path,) = (tmp_path / "leases").iterdir()
        path.write_bytes(b"{")
        with collecting(tmp_path):
            (found,) = held(tmp_path)
        assert (found.since, found.names) == (0, frozenset())


def test_a_dead_owner_holds_nothing(tmp_path):
    code = (
        "import sys, pathlib, time; from propolis.state.leases import Lease; lease = Lease(pathlib.Path(sys.argv[1]));"
    )
    code += "lease.take(); lease.add(['x']); print('ready', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout.readline().strip() == b"ready"
        assert names(tmp_path) == [("x",)]
        owner.kill()
        owner.wait()
    assert names(tmp_path) == []
    assert list((tmp_path / "leases").iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="has no fork")
def test_a_forked_child_does_not_end_it(tmp_path):
    code = (
        "import os, pathlib, sys; from propolis.state.leases import Lease, collecting, held;"
        "cache = pathlib.Path(sys.argv[1]); lease = Lease(cache); lease.take(); lease.add(['x']);"
        "child = os.fork(); child or (lease.release(), os._exit(0)); os.waitpid(child, 0);"
        "lock = collecting(cache); lock.__enter__(); print([sorted(found.names) for found in held(cache)])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[['x']]"


def test_no_lease_is_made_or_added_to_while_somebody_collects(tmp_path):
    lease, done = Lease(tmp_path), []

    def hold():
        lease.take()
        done.append("taken")
        lease.add(["x"])
        done.append("added")

    thread = threading.Thread(target=hold)
    with collecting(tmp_path):
        thread.start()
        time.sleep(0.1)
        assert done == []
    thread.join()
    with collecting(tmp_path):
        assert [found.names for found in held(tmp_path)] == [{"x"}]
    lease.release()


@pytest.mark.skipif(sys.platform == "win32", reason="stops no processes")
def test_a_stopped_collector_is_named_and_not_waited_for_for_ever(tmp_path, monkeypatch):
    code = (
        "import os, pathlib, signal, sys; from propolis.state.leases import collecting;"
        "lock = collecting(pathlib.Path(sys.argv[1])); lock.__enter__(); print('ready', flush=True);"
        "os.kill(os.getpid(), signal.SIGSTOP); lock.__exit__(None, None, None); print('on', flush=True);"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as collector:
        assert collector.stdout.readline().strip() == b"ready"
        with monkeypatch.context() as patch, pytest.raises(CacheBusy, match=f"process {collector.pid} ") as caught:
            patch.setattr(leases, "_PATIENCE", 0.2)
            Lease(tmp_path).take()
        assert f"kill -CONT {collector.pid}" in caught.value.hint
        collector.send_signal(signal.SIGCONT)
        assert collector.stdout.readline().strip() == b"on"
        with Lease(tmp_path) as lease:
            lease.add(["x"])
            assert names(tmp_path) == [("x",)]
        collector.stdin.close()


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_to_is_used_without(tmp_path):
    tmp_path.chmod(0o500)
    with Lease(tmp_path) as lease:
        lease.add(["x"])


def test_nothing_is_left_when_there_is_no_room(tmp_path, monkeypatch):
    from propolis.errors import StorageFull

    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageFull), Lease(tmp_path):
            pass
    assert names(tmp_path) == []
