import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from disks import file, other, push, read
from propolis.disk.cache import LayerCache
from propolis.errors import DiskDamaged, InvalidArgument, LayerUnsupported
from propolis.host.files import STAGE_PREFIX
from propolis.spec import DiskFormat
from propolis.tree import Kind

IDS = [f"sha256:{digit * 64}" for digit in "123"]
ROOT = Path(__file__).resolve().parents[3]


def simple(sink):
    push(sink, [other(Kind.DIRECTORY, b"d"), file(b"d/f", b"content")])


def leaning(sink):
    push(sink, [file(b"unknown/f", b"content")])


def disks(directory):
    """What there is besides locks."""
    return sorted(path.name for path in directory.iterdir() if not path.name.endswith(".lock"))


def test_a_layer_is_made_once_and_read_only(tmp_path):
    cache, calls = LayerCache(tmp_path / "new"), []

    def fill(sink):
        calls.append(1)
        simple(sink)

    path = cache.disk(IDS[:1], DiskFormat.RAW, fill)
    assert cache.disk(IDS[:1], DiskFormat.RAW, fill) == path
    assert len(calls) == 1
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o777 == 0o444
    assert read(path)[b"d/f"][1] == b"content"


def test_formats_are_kept_apart(tmp_path):
    cache = LayerCache(tmp_path)
    raw, vhd, vhdx = (cache.disk(IDS[:1], disk_format, simple) for disk_format in DiskFormat)
    assert vhd.read_bytes()[:-512] == raw.read_bytes()
    assert read(vhdx).keys() == read(raw).keys()
    assert [cache.disk(IDS[:1], disk_format, simple) for disk_format in DiskFormat] == [raw, vhd, vhdx]


def test_a_layer_that_needs_nothing_below_is_shared_by_all_stacks(tmp_path):
    cache = LayerCache(tmp_path)
    path = cache.disk([IDS[0], IDS[2]], DiskFormat.RAW, simple, lambda: pytest.fail("nobody needs it"))
    assert cache.disk([IDS[1], IDS[2]], DiskFormat.RAW, lambda _: pytest.fail("it is there")) == path


def test_a_layer_that_leans_on_others_is_kept_by_its_stack(tmp_path):
    cache = LayerCache(tmp_path)

    def below(mode, number):
        return cache.disk(
            [IDS[number]],
            DiskFormat.RAW,
            lambda sink: push(sink, [other(Kind.DIRECTORY, b"unknown", mode=mode)]),
        )

    lower = [below(0o700, 0), below(0o751, 1)]
    made = [cache.disk([IDS[n], IDS[2]], DiskFormat.RAW, leaning, lambda n=n: [lower[n]]) for n in (0, 1)]
    assert [read(path)[b"unknown"][0].mode & 0o777 for path in made] == [0o700, 0o751]
    assert made == [cache.disk([IDS[n], IDS[2]], DiskFormat.RAW, lambda _: pytest.fail("there")) for n in (0, 1)]


def test_stacks_with_the_same_layers_in_another_order_do_not_wait_for_each_other(tmp_path):
    meeting, made, orders = threading.Barrier(2, timeout=20), [], (IDS[:2], IDS[1::-1])

    def make(order):
        cache = LayerCache(tmp_path)
        is_asked = threading.Event()

        def lower():
            if not is_asked.is_set():
                is_asked.set()
                meeting.wait()  # both upper layers are being made, and each wants the other one as its lower layer
            return [cache.disk(order[:1], DiskFormat.RAW, leaning)]

        made.append(cache.disk(order, DiskFormat.RAW, leaning, lower))

    threads = [threading.Thread(target=make, args=[order], daemon=True) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(made) == 2


def test_a_leaning_layer_of_one_stack_is_made_once(tmp_path):
    cache, calls, made = LayerCache(tmp_path), [], []
    below = cache.disk(IDS[:1], DiskFormat.RAW, simple)

    def fill(sink):
        calls.append(1)
        leaning(sink)

    def lower():
        time.sleep(0.2)
        return [below]

    def make():
        made.append(cache.disk(IDS[:2], DiskFormat.RAW, fill, lower))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 1
    assert len(calls) == 1


def test_threads_that_want_the_same_layer_make_it_once(tmp_path):
    calls, found = [], []

    def fill(sink):
        calls.append(1)
        time.sleep(0.05)
        simple(sink)

    threads = [
        threading.Thread(target=lambda: found.append(LayerCache(tmp_path).disk(IDS[:1], DiskFormat.RAW, fill)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(found) == 4
    assert len(set(found)) == 1


PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from propolis.disk.cache import LayerCache
from propolis.spec import DiskFormat
from propolis.tree import Entry, Kind
def fill(sink):
    print("filling", flush=True)
    sink.entry(Entry(Kind.FILE, b"f", size=1 << 16)); sink.data(memoryview(bytes(1 << 16))); sink.commit()
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)
LayerCache(Path(sys.argv[1])).disk(["sha256:" + "1" * 64], DiskFormat.RAW, fill)
"""


def test_processes_that_want_the_same_layer_make_it_once(tmp_path):
    command = [sys.executable, "-c", PROGRAM, tmp_path, "live"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sorted(outputs) == ["", "filling\n"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_what_a_killed_writer_leaves_does_not_count_and_is_swept(tmp_path):
    killed = subprocess.run([sys.executable, "-c", PROGRAM, tmp_path, "die"], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = disks(tmp_path)
    assert left.startswith(STAGE_PREFIX)
    assert (tmp_path / left).stat().st_mode & 0o200, "whoever sweeps may have to open it for writing"
    path = LayerCache(tmp_path).disk(IDS[:1], DiskFormat.RAW, simple)
    assert disks(tmp_path) == [path.name]


@pytest.mark.parametrize("length", [0, 100, 2048, 5000, -1])
def test_a_damaged_disk_is_put_aside_and_made_again(tmp_path, length):
    cache = LayerCache(tmp_path)
    path = cache.disk(IDS[:1], DiskFormat.RAW, simple)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:length])
    assert cache.disk(IDS[:1], DiskFormat.RAW, simple) == path
    assert path.read_bytes() == content
    assert (tmp_path / f"damaged-{path.name}").read_bytes() == content[:length]


def test_errors_of_whoever_fills_pass_through_and_leave_nothing(tmp_path):
    cache = LayerCache(tmp_path)

    def failing(sink):
        simple(sink)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.disk(IDS[:1], DiskFormat.RAW, failing)
    with pytest.raises(LayerUnsupported, match=IDS[0]):
        cache.disk(IDS[:1], DiskFormat.RAW, lambda sink: push(sink, [file(b"f", xattrs={b"user.x": bytes(5000)})]))
    assert disks(tmp_path) == []


def test_nonsense_is_refused_before_any_work(tmp_path):
    cache = LayerCache(tmp_path)
    for diff_ids in ([], ["sha256:../../etc"], [IDS[0], ""]):
        with pytest.raises(InvalidArgument):
            cache.disk(diff_ids, DiskFormat.RAW, simple)
    assert disks(tmp_path) == []


def test_the_latest_damaged_disks_are_kept_and_counted(tmp_path):
    cache = LayerCache(tmp_path)
    for number in range(5):
        path = cache.disk([f"sha256:{number:064}"], DiskFormat.RAW, simple)
        path.unlink()
        path.write_bytes(b"damaged")
        cache.disk([f"sha256:{number:064}"], DiskFormat.RAW, simple)
    left = sorted(path.name for path in tmp_path.glob("damaged-*"))
    assert [name[len("damaged-sha256-") :][:64] for name in left] == [f"{number:064}" for number in (2, 3, 4)]
    found = cache.disks()
    whole, damaged = ([disk.size for disk in found if disk.is_damaged is bad] for bad in (False, True))
    assert (len(whole), len(damaged)) == (5, 3)
    most = 200_000 if sys.platform != "win32" else 300_000  # there holes take room, too
    assert 5 * 20_000 < sum(whole) < 5 * most
    assert 0 < sum(damaged) < 100_000


def test_an_empty_cache_has_nothing(tmp_path):
    assert LayerCache(tmp_path / "missing").disks() == []


def test_a_lower_disk_that_turns_out_to_be_damaged_is_put_aside(tmp_path):
    """Its superblock is whole, its tree is not: nothing but its use shows it."""
    cache = LayerCache(tmp_path)
    lower = cache.disk(IDS[:1], DiskFormat.RAW, simple)
    lower.chmod(0o644)
    with lower.open("r+b") as file:
        file.seek(17 * 4096)
        file.write(b"\xff" * (lower.stat().st_size - 17 * 4096))
    with pytest.raises(DiskDamaged, match="damaged") as caught:
        cache.disk(IDS[:2], DiskFormat.RAW, leaning, lambda: [lower])
    assert "put aside" in caught.value.hint
    assert not lower.exists()
    assert cache.disk(IDS[:1], DiskFormat.RAW, simple) == lower
    cache.disk(IDS[:2], DiskFormat.RAW, leaning, lambda: [lower])
