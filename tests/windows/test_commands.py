"""Commands that need no machine, run on Windows as a user does."""

import io
import json
import os
import subprocess
import tarfile

import pytest


def test_the_version(rig):
    done = rig.propolis("--version")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"propolis 0.")


def test_doctor_tells_of_windows_and_what_to_do(rig):
    done = rig.propolis("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert checks["windows"]["found"].startswith("Windows 11 Pro, build 22631")
    assert checks["cache"]["verdict"] == "ok"
    assert checks["rights"]["verdict"] == "ok"
    assert checks["compute service"]["verdict"] == "ok" or "dism" in checks["compute service"]["remedy"]


def test_a_wrong_call_is_told_and_is_no_traceback(rig):
    done = rig.propolis("run", "oci:C:\\no\\such\\layout", "true")
    told = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (125, b"")
    assert told[0].startswith("propolis: ")
    assert len(told) <= 2


@pytest.mark.parametrize("kind", ["raw", "vhd", "vhdx"])
def test_a_disk_is_the_same_whichever_system_makes_it(rig, busybox, busybox_image, tmp_path, kind):
    there, here = tmp_path / f"Grüße {kind}.{kind}", tmp_path / f"here.{kind}"
    done = rig.propolis("disk", "build", busybox, "--flatten", "-o", rig.path(there))
    assert (done.returncode, done.stderr) == (0, b"")
    from propolis.disk import build

    build(busybox_image, here, flatten=True)
    assert there.read_bytes() == here.read_bytes()


def test_what_it_makes_others_can_read(rig, busybox, tmp_path):
    disk = tmp_path / "disk.vhdx"
    assert rig.propolis("disk", "build", busybox, "--flatten", "-o", rig.path(disk)).returncode == 0
    subprocess.run(["qemu-img", "check", disk], check=True, capture_output=True)
    done = rig.propolis("disk", "cat", rig.path(disk), "/etc/group")
    assert done.stdout.startswith(b"root:x:0:\n")


def test_directories_of_a_killed_build_go_with_the_next_one(rig, tmp_path, eventually):
    tar = tmp_path / "large.tar"
    with tarfile.open(tar, "w") as archive:
        for number in range(100):
            member = tarfile.TarInfo(str(number))
            member.size = 4 << 20
            archive.addfile(member, io.BytesIO(os.urandom(member.size)))
    environment = {"PROPOLIS_CACHE": rig.path(tmp_path / "cache")}
    build = ("-m", "propolis", "disk", "build", "--flatten", "-o", rig.path(tmp_path / "x.raw"))
    with rig.start(*build, rig.path(tar), env=environment) as process:
        eventually(lambda: list((tmp_path / "cache").glob(".staged-*.d/*")) or process.poll() is not None)
        process.kill()
        process.wait(60)
    (left,) = (tmp_path / "cache").glob(".staged-*.d")
    tar.unlink()
    with tarfile.open(tar, "w") as archive:
        archive.addfile(tarfile.TarInfo("one"))
    assert rig.python(*build, rig.path(tar), env=environment).returncode == 0
    assert not left.exists()
    assert not list(tmp_path.rglob(".staged-*"))


def test_nothing_is_left_when_it_is_killed_at_work(rig, busybox, tmp_path, eventually):
    """The next run sweeps what a killed one has staged."""
    environment = {"PROPOLIS_CACHE": rig.path(tmp_path / "cache")}
    command = ("-m", "propolis", "disk", "build", busybox, "--flatten", "-o", rig.path(tmp_path / "x.raw"))
    with rig.start(*command, env=environment) as process:
        eventually(lambda: list((tmp_path / "cache").rglob(".staged-*")) or process.poll() is not None)
        process.kill()
        process.wait(60)
    assert rig.python(*command, env=environment).returncode == 0
    assert not list(tmp_path.rglob(".staged-*"))
