"""The store as a user has it, with real machines: what they use stays, what they do not can go."""

import json
import os
import subprocess
import time

import pytest

from propolis.host.directories import cache_directory
from terminals import PROPOLIS
from vmms import vmms_below

NAME = "example.org/box:1"
MACHINES = 4
PATIENCE = 30


@pytest.fixture
def own(cli, busybox_image, tmp_path, monkeypatch):
    """A cache of its own, with busybox in it; kernels are the user's."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "kernels").symlink_to(cache_directory() / "kernels")
    monkeypatch.setenv("PROPOLIS_CACHE", str(cache))
    layout = busybox_image.removeprefix("oci:").rpartition(":")[0]
    done = cli("load", "-q", "-i", layout)
    assert done.returncode == 0, done.stderr
    (said,) = done.stdout.decode().splitlines()
    digest = said.removeprefix("Loaded image ID: ")
    assert cli("tag", digest, NAME).returncode == 0
    yield cache
    cli("stop", "-t", "0", "box")


def files(cache):
    below = [path for name in ("blobs", "layers", "leases") for path in (cache / name).rglob("*")]
    return sorted(path for path in below if path.is_file() and path.suffix != ".lock")


def test_what_a_machine_runs_from_stays_until_it_has_ended(cli, own, data_directory):
    done = cli("run", "-q", "-d", "--name", "box", "--pull", "never", NAME, "sleep", "1000")
    assert done.returncode == 0, done.stderr
    done = cli("rmi", NAME)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"in use by box" in done.stderr
    (found,) = json.loads(cli("inspect", NAME).stdout)
    assert found["Machines"] == ["box"] and found["Complete"]
    before = files(own)
    assert cli("image", "prune", "-af").stdout == b"Total reclaimed space: 0B\n"
    assert files(own) == before
    assert cli("rmi", "-f", NAME).stdout == f"Untagged: {NAME}\n".encode()
    assert cli("image", "prune", "-af").stdout == b"Total reclaimed space: 0B\n"
    assert cli("exec", "box", "sh", "-c", "echo 3 > /proc/sys/vm/drop_caches; sha1sum /bin/busybox").returncode == 0
    assert cli("images").stdout.splitlines()[-1].split()[:2] == [b"<none>", b"<none>"]
    used = [json.loads(line) for line in cli("df", "--format", "json").stdout.splitlines()]
    assert {item["kind"]: item["active"] for item in used if item["active"]} == {
        "images": 1,
        "layer disks": 1,
        "blobs": 3,
        "machines": 1,
    }
    assert cli("stop", "-t", "0", "box").returncode == 0
    until = time.monotonic() + PATIENCE
    while vmms_below(data_directory) or list((own / "leases").iterdir()):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert b"Deleted: disk" in cli("image", "prune", "-f").stdout
    assert files(own) == []


def test_a_killed_owner_s_machine_can_be_collected(cli, own, data_directory):
    process = subprocess.Popen(
        [PROPOLIS, "run", "-q", "--name", "box", NAME, "sh", "-c", "echo up; sleep 1000"], stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"up\n"
        assert cli("rmi", NAME).returncode == 1
        process.kill()
    until = time.monotonic() + PATIENCE
    while vmms_below(data_directory):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert cli("rmi", NAME).returncode == 0
    assert files(own) == []
    cli("doctor", "--fix")


def test_machines_start_while_everything_is_pruned(cli, own, tmp_path):
    """Again and again; what was pruned is loaded again."""
    archive = tmp_path / "box.tar"
    assert cli("save", "-q", "-o", archive, NAME).returncode == 0
    script = f"""
        for i in $(seq {MACHINES}); do
            {PROPOLIS} run -q oci-archive:{archive} sh -c 'cat /bin/* > /dev/null; echo fine' || exit 1
        done"""
    starters = [
        subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)
    ]
    removed = 0
    while any(starter.poll() is None for starter in starters):
        done = cli("image", "prune", "-af", "--format", "json")
        assert done.returncode == 0, done.stderr
        removed += len(json.loads(done.stdout)["removed"])
    for starter in starters:
        out, err = starter.communicate()
        assert (starter.returncode, out) == (0, b"fine\n" * MACHINES), err
    assert removed > 0
    cli("image", "prune", "-af")
    assert files(own) == []


def test_a_layer_s_disk_that_was_damaged_is_made_anew_without_the_network(cli, own):
    assert cli("run", "-q", "--pull", "never", NAME, "true").returncode == 0
    (disk,) = (own / "layers").glob("*.raw")
    disk.chmod(0o644)
    os.truncate(disk, 4096)
    assert cli("run", "-q", "--pull", "never", NAME, "echo", "hi").stdout == b"hi\n"
    (damaged,) = (own / "layers").glob("damaged-*")
    assert damaged.stat().st_size == 4096
    (blob,) = [path for path in (own / "blobs" / "sha256").iterdir() if path.stat().st_size > 100_000]
    data = blob.read_bytes()
    blob.write_bytes(data[:-9] + bytes(9))
    for path in (own / "layers").glob("*"):
        path.unlink()
    done = cli("run", "-q", "--pull", "never", NAME, "true")
    assert done.returncode == 125
    assert b"Traceback" not in done.stderr and b"hint" in done.stderr
    assert len(list(blob.parent.glob("damaged-*"))) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_cache_that_cannot_be_written_to_is_used_as_it_is(cli, own, tmp_path, monkeypatch):
    assert cli("run", "-q", NAME, "true").returncode == 0
    place = tmp_path / "mounted"
    place.mkdir()
    if subprocess.run(["mount", "--bind", own, place], check=False).returncode != 0:
        pytest.skip("this container may not mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        monkeypatch.setenv("PROPOLIS_CACHE", str(place))
        assert cli("run", "-q", "--pull", "never", NAME, "echo", "hi").stdout == b"hi\n"
        assert NAME.encode() in cli("inspect", NAME).stdout
        assert cli("df").returncode == 0
        assert cli("save", "-q", "-o", tmp_path / "a.tar", NAME).returncode == 0
        for command in (
            ["rmi", NAME],
            ["image", "prune", "-f"],
            ["tag", NAME, "x"],
            ["load", "-i", tmp_path / "a.tar"],
        ):
            done = cli(*command)
            assert (done.returncode, done.stdout) == (125, b"")
            assert b"Read-only file system" in done.stderr and b"Traceback" not in done.stderr
    finally:
        subprocess.run(["umount", place], check=True)
