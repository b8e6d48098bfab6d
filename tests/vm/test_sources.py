"""Images that are in no registry and no layout, as `propolis run` takes them."""

import gzip
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

import pytest

from daemons import asked, engine
from propolis import run

FLAGS = ("run", "--rm", "-q")


@pytest.fixture(scope="module")
def copies(busybox_image, tmp_path_factory):
    """The image in the forms of skopeo's transports."""
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    directory = tmp_path_factory.mktemp("copies")
    for target in (f"dir:{directory}/dir", f"docker-archive:{directory}/save.tar:box:1"):
        command = ["skopeo", "copy", "--insecure-policy", busybox_image, target]
        subprocess.run(command, check=True, capture_output=True)
    return directory


@pytest.fixture(scope="module")
def rootfs(copies, tmp_path_factory):
    """The image's files in a directory, with those of a user of ours among them."""
    directory = tmp_path_factory.mktemp("rootfs")
    with tarfile.open(copies / "save.tar") as archive:
        (layer,) = (member for member in archive if member.name.endswith(".tar") and member.isfile())
        file = archive.extractfile(layer)
        subprocess.run(["tar", "-x", "-C", directory], input=file.read(), check=True)
    (directory / "mine").write_text("content")
    (directory / "mine").chmod(0o640)
    if os.geteuid() == 0:
        os.chown(directory / "mine", 1234, 5)
    return directory


@pytest.fixture
def spool():
    """Where copies of archives are for as long as they are read."""
    from propolis.host.directories import cache_directory

    return cache_directory() / "blobs" / "spool"


def test_a_directory_of_skopeos_runs(cli, copies):
    for name in (f"dir:{copies}/dir", f"{copies}/dir"):
        assert cli(*FLAGS, name, "echo", "hello").stdout == b"hello\n"


@pytest.mark.parametrize("name", ["-", "docker-archive:-", "docker-archive:-:box:1"])
def test_an_archive_is_piped_in(cli, copies, spool, name):
    data = (copies / "save.tar").read_bytes()
    done = cli(*FLAGS, name, "sh", "-c", "cat; echo end", input=gzip.compress(data) if name == "-" else data)
    assert (done.stdout, done.returncode) == (b"end\n", 0), done.stderr
    assert not list(spool.iterdir())


def test_an_archive_that_is_piped_in_may_be_left_running(cli, copies, spool):
    done = cli("run", "-q", "-d", "--name", "piped", "-", "sleep", "60", input=(copies / "save.tar").read_bytes())
    assert done.returncode == 0, done.stderr
    assert not list(spool.iterdir())
    assert cli("exec", "piped", "echo", "there").stdout == b"there\n"
    assert cli("stop", "piped").returncode == 0


def test_an_archive_that_breaks_off_says_so_and_leaves_nothing(cli, copies, spool):
    data = (copies / "save.tar").read_bytes()
    for broken in (b"", data[: len(data) // 2], gzip.compress(data)[:-10]):
        done = cli(*FLAGS, "-", "true", input=broken)
        assert done.returncode == 125
        assert done.stderr.startswith(b"propolis: standard input ")
        assert not list(spool.iterdir())


def test_a_compressed_archive_runs_by_its_path_and_is_uncompressed_once(cli, copies, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("PROPOLIS_CACHE", str(cache))

    path = tmp_path / "x.tgz"
    path.write_bytes(gzip.compress((copies / "save.tar").read_bytes()))
    time.sleep(2.1)  # of a file that has just been written nothing is remembered
    timing = ("run", "--timing", "--rm", path, "echo", "hello")
    for is_known in (False, True):
        done = cli(*timing)
        assert done.stdout == b"hello\n", done.stderr
        assert (b"read archive" in done.stderr) is not is_known
    (disk,) = (cache / "layers").glob("sha256-*.raw")
    disk.chmod(0o644)
    disk.write_bytes(b"damaged")
    done = cli(*timing)
    assert done.stdout == b"hello\n", done.stderr
    assert b"read archive" in done.stderr
    assert not list((cache / "blobs/spool").iterdir())


def test_a_directory_is_a_root_file_system_that_stays_as_it_is(cli, rootfs):
    before = sorted((str(path), path.lstat().st_mtime_ns) for path in rootfs.rglob("*"))
    done = cli(*FLAGS, "--rootfs", rootfs, "sh", "-c", "stat -c '%u %g %a' /mine; rm /mine; touch /new; ls -d /[mn]*")
    owner = "1234 5" if os.geteuid() == 0 else f"{os.geteuid()} {os.getegid()}"
    assert done.stdout.decode().splitlines() == [f"{owner} 640", "/new"], done.stderr
    assert sorted((str(path), path.lstat().st_mtime_ns) for path in rootfs.rglob("*")) == before
    assert cli(*FLAGS, "--rootfs", rootfs, "cat", "/mine").stdout == b"content"


def test_a_tarball_is_a_root_file_system(cli, rootfs, tmp_path):
    subprocess.run(["tar", "-czf", tmp_path / "x.tar.gz", "-C", rootfs, "."], check=True)
    for _ in range(2):
        assert cli(*FLAGS, "--rootfs", tmp_path / "x.tar.gz", "cat", "/mine").stdout == b"content"
    done = cli(*FLAGS, "--rootfs", "-", "sh", "-c", "cat - /mine", input=(tmp_path / "x.tar.gz").read_bytes())
    assert done.stdout == b"content"
    assert run(None, ["sh", "-c", "echo $PATH"], rootfs=tmp_path / "x.tar.gz").stdout.startswith(b"/usr/local/sbin:")


def test_a_root_file_system_needs_a_command(cli, rootfs):
    done = cli(*FLAGS, "--rootfs", rootfs)
    assert done.returncode == 125
    assert b"does not say what to run" in done.stderr
    assert b"hint:" in done.stderr


def test_a_platform_is_chosen_or_refused(cli, copies):
    image = f"dir:{copies}/dir"
    assert cli(*FLAGS, "--platform", "linux/x86_64", image, "echo", "a").stdout == b"a\n"
    for platform in ("linux/amd64/v3", "linux/s390x", "windows/amd64"):
        done = cli(*FLAGS, "--platform", platform, image, "true")
        assert done.returncode == 125
        assert b"hint:" in done.stderr
    done = cli(*FLAGS, image, "true", env=os.environ | {"DOCKER_DEFAULT_PLATFORM": "linux/amd64/v3"})
    assert b"is for linux/amd64, not for linux/amd64/v3" in done.stderr


@pytest.mark.skipif(shutil.which("podman") is None or os.geteuid() != 0, reason="needs podman, and root for it")
def test_an_image_of_podmans_runs_and_is_exported_once(cli, copies):
    with engine("podman", Path(tempfile.mkdtemp(prefix="engine-"))) as place:
        asked(place, "POST", "/images/load", (copies / "save.tar").read_bytes())
        told = {"DOCKER_HOST": f"unix://{place}"}
        for _ in range(2):
            done = cli(*FLAGS, "docker-daemon:box:1", "echo", "hello", env=os.environ | told)
            assert done.stdout == b"hello\n", done.stderr
        done = cli("run", "--timing", "docker-daemon:box:1", "true", env=os.environ | told)
        assert b"read archive" not in done.stderr
    done = cli(*FLAGS, "docker-daemon:box:1", "true", env=os.environ | told)
    assert b"no container engine listens at unix://" in done.stderr
