"""`propolis disk`, as a user calls it: what it makes is judged by e2fsck, QEMU, the kernel, umoci, GNU tar."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

import propolis
import propolis.disk
from disks import check, mounted
from propolis.disk.container import format_of
from propolis.spec import DiskFormat
from trees import walk

PROPOLIS = Path(sys.executable).with_name("propolis")
LOST_FOUND = frozenset(["lost+found"])
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
needs_umoci = pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PROPOLIS_CACHE", str(tmp_path / "cache"))


def disk(*arguments, code=0):
    """One call of `propolis disk`; what it printed, or what it complained of."""
    done = subprocess.run([PROPOLIS, "disk", *map(str, arguments)], capture_output=True, check=False, timeout=300)
    assert done.returncode == code, done.stderr.decode()
    return (done.stderr if code == 125 else done.stdout).decode(errors="surrogateescape")


def raw(path, directory):
    """The disk without its container, by QEMU."""
    driver = {DiskFormat.RAW: "raw", DiskFormat.VHD: "vpc", DiskFormat.VHDX: "vhdx"}[format_of(path)]
    target = directory / f"{path.name}.by-qemu"
    subprocess.run(["qemu-img", "convert", "-f", driver, "-O", "raw", path, target], check=True)
    return target


@pytest.fixture
def tree(tmp_path):
    """A directory with what a root file system may have."""
    root = tmp_path / "tree"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (root / "empty").touch()
    (root / "bin").symlink_to("usr/bin")
    (root / "usr" / "bin").mkdir(parents=True, mode=0o711)
    (root / "usr" / "bin" / "tool").write_bytes(b"#!" * 50_000)
    (root / "usr" / "bin" / "tool").chmod(0o4755)
    os.link(root / "usr" / "bin" / "tool", root / "etc" / "same")
    with (root / "sparse").open("wb") as file:
        file.seek(10 << 20)
        file.write(b"end")
        file.truncate(30 << 20)
    (root / os.fsdecode(b"name \xff\xfe")).write_bytes(b"x")
    os.mkfifo(root / "fifo")
    if os.geteuid() == 0:
        os.mknod(root / "null", 0o020666, os.makedev(1, 3))
        os.chown(root / "empty", 1234, 70_000)
        os.setxattr(root / "etc", "user.colour", b"blue")
    os.utime(root / "etc" / "passwd", ns=(5, -1_500_000_001))
    return root


@needs_root
@pytest.mark.parametrize("disk_format", DiskFormat)
def test_a_directory_becomes_a_disk_with_the_same_tree(tree, tmp_path, disk_format):
    target = tmp_path / f"out.{disk_format}"
    assert disk("build", tree, "-o", target).strip() == str(target)
    assert format_of(target) is disk_format
    assert disk("verify", target) == "ok\n"
    plain = raw(target, tmp_path)
    check(plain)
    with mounted(tmp_path / "m", "-o", "loop,ro", plain) as point:
        assert walk(point, leave_out=LOST_FOUND) == walk(tree)
        assert (point / "sparse").stat().st_blocks * 512 < 200_000
        assert point.stat().st_mode == tree.stat().st_mode


@needs_root
@pytest.mark.parametrize("compress", [None, "gzip", "zstd"])
def test_a_tar_becomes_the_disk_that_tar_unpacks(tree, tmp_path, compress):
    archive = tmp_path / "some.tar"
    subprocess.run(["tar", "-C", tree, "--xattrs", "--format=pax", "-S", "-cf", archive, "."], check=True)
    if compress:
        subprocess.run([compress, "-q", archive], check=True)
        archive = next(tmp_path.glob("some.tar.*"))
    first, second = (
        disk("build", archive, "-o", tmp_path / "a.raw"),
        disk("build", f"tar:{archive}", "-o", tmp_path / "b.raw"),
    )
    assert (first.strip(), second.strip()) == (str(tmp_path / "a.raw"), str(tmp_path / "b.raw"))
    assert (tmp_path / "a.raw").read_bytes() == (tmp_path / "b.raw").read_bytes()
    check(tmp_path / "a.raw")
    with mounted(tmp_path / "m", "-o", "loop,ro", tmp_path / "a.raw") as point:
        assert walk(point, leave_out=LOST_FOUND) == walk(tree)


@needs_root
@needs_umoci
def test_an_image_is_merged_as_umoci_unpacks_it(debian_image, tmp_path):
    subprocess.run(
        ["umoci", "unpack", "--image", debian_image.removeprefix("oci:"), tmp_path / "bundle"],
        check=True,
        capture_output=True,
    )
    disk("build", debian_image, "--flatten", "-o", tmp_path / "out.vhdx")
    assert disk("verify", tmp_path / "out.vhdx") == "ok\n"
    plain = raw(tmp_path / "out.vhdx", tmp_path)
    check(plain)
    with mounted(tmp_path / "m", "-o", "loop,ro", plain) as point:
        ours, theirs = walk(point, leave_out=LOST_FOUND), walk(tmp_path / "bundle" / "rootfs")
    assert ours.keys() == theirs.keys()
    assert {path for path in ours if ours[path] != theirs[path]} == set()
    assert disk("cat", tmp_path / "out.vhdx", "/opt/new/file") == "deeper\n"
    assert disk("ls", tmp_path / "out.vhdx", "/opt/new") == "file\n"


def test_an_image_of_several_layers_gives_a_disk_each(debian_image, tmp_path):
    made = disk("build", debian_image, "-o", f"{tmp_path}/layers/", "--format", "raw").split()
    assert [Path(path).name[:3] for path in made] == ["01-", "02-", "03-"]
    for path in made:
        check(Path(path))
    complaint = disk("build", debian_image, "-o", tmp_path / "one.vhdx", code=125)
    assert "has 3 layers" in complaint
    assert "--flatten" in complaint
    assert not (tmp_path / "one.vhdx").exists()


def test_a_label_a_size_a_journal_and_a_verity_tree(tree, tmp_path):
    target = tmp_path / "out.vhd"
    told = disk("build", tree, "-o", target, "--size", "300m", "--label", "mine", "--journal", "--verity")
    root_hash = told.split()[-1]
    found = json.loads(disk("info", target, "--json"))
    assert found["ext4"]["label"] == "mine"
    assert found["ext4"]["size"] == 300 << 20
    assert "has_journal" in found["ext4"]["features"]
    assert found["verity"]["root_hash"] == root_hash
    assert disk("verify", target, "--root-hash", root_hash) == "ok\n"
    assert "root hash" in disk("verify", target, "--root-hash", "0" * 64, code=1)
    with target.open("r+b") as file:
        file.seek(120 << 20)
        file.write(b"!")
    assert "block" in disk("verify", target, code=1)


def test_the_same_source_gives_the_same_bytes_another_day(tree, tmp_path):
    for name in ("a.vhdx", "b.vhdx"):
        made = propolis.disk.build(tree, tmp_path / name)
        assert [built.path.name for built in made] == [name]
    assert (tmp_path / "a.vhdx").read_bytes() == (tmp_path / "b.vhdx").read_bytes()


def test_the_compression_of_a_tar_does_not_change_the_disk(tree, tmp_path):
    subprocess.run(["tar", "-C", tree, "-cf", tmp_path / "t.tar", "."], check=True)
    subprocess.run(["gzip", "-k9", tmp_path / "t.tar"], check=True)
    subprocess.run(["zstd", "-q", tmp_path / "t.tar"], check=True)
    made = [propolis.disk.build(tmp_path / f"t.tar{end}", tmp_path / f"o{end}.vhdx")[0] for end in ("", ".gz", ".zst")]
    assert len({built.key for built in made}) == 1
    assert len({built.path.read_bytes() for built in made}) == 1


def test_what_a_killed_build_leaves_is_swept_by_the_next(tree, tmp_path):
    target = tmp_path / "out" / "disk.raw"
    with (tree / "large").open("wb") as file:
        for _ in range(300):
            file.write(os.urandom(1 << 20))
    with subprocess.Popen([PROPOLIS, "disk", "build", "-q", tree, "-o", target]) as building:
        until = time.monotonic() + 60
        while not list(target.parent.glob(".staged-*")) and time.monotonic() < until:
            time.sleep(0.005)
        building.kill()
    assert [path.name[:8] for path in target.parent.iterdir()] == [".staged-"]
    (tree / "large").unlink()
    disk("build", tree, "-o", target)
    assert list(target.parent.iterdir()) == [target]


def test_what_is_on_a_disk_is_listed(tree, tmp_path):
    disk("build", tree, "-o", tmp_path / "out.raw")
    long = disk("ls", "-l", tmp_path / "out.raw", "/")
    assert "lrwxrwxrwx" in long
    assert "bin -> usr/bin" in long
    assert "name \\xff\\xfe" in long
    assert "-rwsr-xr-x" in disk("ls", "-l", tmp_path / "out.raw", "/bin/tool")
    assert "/usr/bin:\ntool" in disk("ls", "-R", tmp_path / "out.raw")
    assert disk("cat", tmp_path / "out.raw", "bin/../bin/../../bin/tool") == "#!" * 50_000
    assert "there is no" in disk("cat", tmp_path / "out.raw", "/absent", code=125)
    assert "is not a file" in disk("cat", tmp_path / "out.raw", "/etc", code=125)


def test_disks_of_mke2fs_are_read_too(tree, tmp_path):
    command = ["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", tree, tmp_path / "theirs", "64M"]
    subprocess.run(command, check=True, capture_output=True)
    assert disk("cat", tmp_path / "theirs", "/etc/same") == "#!" * 50_000
    assert disk("verify", tmp_path / "theirs") == "ok\n"


@needs_root
def test_what_the_kernel_allocated_and_never_wrote_reads_as_zeros(tree, tmp_path):
    disk("build", tree, "-o", tmp_path / "d.raw", "--size", "100m")
    with mounted(tmp_path / "m", "-o", "loop", tmp_path / "d.raw") as point:
        subprocess.run(["fallocate", "-l", "300000", point / "allocated"], check=True)
        with (point / "allocated").open("r+b") as file:
            file.seek(200_000)
            file.write(b"written")
    expected = bytes(200_000) + b"written" + bytes(99_993)
    assert disk("cat", tmp_path / "d.raw", "/allocated").encode() == expected


def test_whiteouts_of_a_tar_are_merged_away_or_kept(tmp_path):
    with tarfile.open(tmp_path / "layer.tar", "w") as tar:
        for name in ("d/.wh.gone", "d/kept"):
            tar.addfile(tarfile.TarInfo(name))
    disk("build", tmp_path / "layer.tar", "-o", tmp_path / "kept.raw")
    assert disk("ls", tmp_path / "kept.raw", "/d") == "gone\nkept\n"
    disk("build", tmp_path / "layer.tar", "--flatten", "-o", tmp_path / "merged.raw")
    assert disk("ls", tmp_path / "merged.raw", "/d") == "kept\n"


BAD = {
    "missing source": (["{tmp}/absent", "-o", "{tmp}/o.raw"], "absent"),
    "empty file": (["{tmp}/empty", "-o", "{tmp}/o.raw"], "is empty"),
    "no tar": (["{tmp}/text", "-o", "{tmp}/o.raw"], "not a tar archive"),
    "a directory called tar": (["tar:{tmp}", "-o", "/nowhere/o.raw"], "is not a file"),
    "a file called rootfs": (["rootfs:{tmp}/text", "-o", "{tmp}/o.raw"], "is not a directory"),
    "output is a device": (["{tmp}/d", "-o", "/dev/null"], "is no file"),
    "output cannot be made": (["{tmp}/d", "-o", "{tmp}/text/o.raw"], "a file is where a directory should be"),
    "unknown format": (["{tmp}/d", "-o", "{tmp}/o", "--format", "qcow2"], "is no format of disks"),
    "formats differ": (["{tmp}/d", "-o", "{tmp}/o.vhd", "--format", "vhdx"], "is the name of a vhd disk"),
    "size too small": (["{tmp}/d", "-o", "{tmp}/o.raw", "--size", "100k"], "cannot be made"),
    "size smaller than content": (["{tmp}/d", "-o", "{tmp}/o.raw", "--size", "1m"], "does not fit"),
    "size absurd": (["{tmp}/d", "-o", "{tmp}/o.raw", "--size", "100t"], "cannot be made"),
    "size beyond a VHD": (["{tmp}/d", "-o", "{tmp}/o.vhd", "--size", "3t"], "2040 GiB"),
    "no size": (["{tmp}/d", "-o", "{tmp}/o.raw", "--size", "large"], "large"),
    "label too long": (["{tmp}/d", "-o", "{tmp}/o.raw", "--label", "x" * 17], "longer than 16 bytes"),
    "output is the source": (["{tmp}/t.tar", "-o", "{tmp}/t.tar"], "replace its own source"),
    "output lies in the source": (["{tmp}/d", "-o", "{tmp}/d/o.raw"], "lies in its own source"),
    "image that is none": (["oci:{tmp}/d", "-o", "{tmp}/o.raw"], "d"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_gives_one_message_and_leaves_nothing(tmp_path, what):
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("no tar at all " * 100)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x" * (2 << 20))
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("f"))
    before = {path.name for path in tmp_path.iterdir()} | {"cache"}
    arguments, expected = BAD[what]
    complaint = disk("build", "-q", *(argument.format(tmp=tmp_path) for argument in arguments), code=125)
    lines = complaint.splitlines()
    assert expected in lines[0]
    assert lines[0].startswith("propolis: ")
    assert len(lines) <= 2
    assert {path.name for path in tmp_path.iterdir()} <= before
    assert list((tmp_path / "d").iterdir()) == [tmp_path / "d" / "f"]


@pytest.mark.parametrize("verb", ["info", "ls", "verify"])
@pytest.mark.parametrize("content", [b"", b"text", b"vhdxfile", b"vhdxfile" + bytes(5 << 20), bytes(1 << 20)])
def test_what_is_no_disk_is_said_to_be_none(tmp_path, verb, content):
    (tmp_path / "file").write_bytes(content)
    done = subprocess.run([PROPOLIS, "disk", verb, tmp_path / "file"], capture_output=True, text=True, check=False)
    if verb == "info" and not content.startswith(b"vhdx"):
        assert done.returncode == 0
        assert "raw" in done.stdout
        return
    assert done.returncode == (1 if verb == "verify" and not content.startswith(b"vhdx") else 125)
    assert "Traceback" not in done.stderr
    assert "internal" not in done.stderr


def test_missing_and_unreadable_files_are_named(tmp_path):
    for verb in ("info", "ls", "verify"):
        assert "absent" in disk(verb, tmp_path / "absent", code=125)
        assert "is a directory" in disk(verb, tmp_path, code=125)


@pytest.mark.parametrize("source", ["tar:{}", "{}"])
def test_a_source_in_the_directory_for_the_disks_is_not_replaced(tmp_path, source):
    tar = tmp_path / "x.raw"
    with tarfile.open(tar, "w") as archive:
        archive.addfile(tarfile.TarInfo("file"))
    before = tar.read_bytes()
    complaint = disk("build", source.format(tar), "-o", tmp_path, "--format", "raw", code=125)
    assert "replace its own source" in complaint
    assert tar.read_bytes() == before


def test_nothing_is_built_into_an_image_layout(busybox_image, tmp_path):
    layout = tmp_path / "layout"
    shutil.copytree(busybox_image.removeprefix("oci:").rpartition(":")[0], layout)
    for reference in (f"oci:{layout}:latest", f"{layout}:latest", str(layout)):
        assert "lies in its own source" in disk("build", reference, "-o", layout / "blobs" / "x.raw", code=125)
        assert "lies in its own source" in disk("build", reference, "-o", f"{layout}/", code=125)


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_every_reference_that_run_takes_gives_the_same_disk(busybox_image, tmp_path):
    for target in (f"dir:{tmp_path}/dir", f"docker-archive:{tmp_path}/save.tar:box:1"):
        subprocess.run(["skopeo", "copy", "--insecure-policy", busybox_image, target], check=True, capture_output=True)
    subprocess.run(["gzip", "-k", tmp_path / "save.tar"], check=True)
    (expected,) = propolis.disk.build(busybox_image, tmp_path / "a.raw")
    sources = (f"dir:{tmp_path}/dir", tmp_path / "dir", f"{tmp_path}/save.tar.gz:box:1", tmp_path / "save.tar.gz")
    for source in sources:
        (made,) = propolis.disk.build(source, tmp_path / "b.raw")
        assert made.path.read_bytes() == expected.path.read_bytes(), source
    for source in ("-", "docker-archive:-"):
        command = [PROPOLIS, "disk", "build", source, "-o", tmp_path / "b.raw"]
        with (tmp_path / "save.tar.gz").open("rb") as file:
            subprocess.run(command, stdin=file, check=True, capture_output=True)
        assert made.path.read_bytes() == expected.path.read_bytes(), source
    assert not list((tmp_path / "cache/blobs/spool").iterdir())


def test_a_layer_through_standard_input_is_a_tar(tree, tmp_path):
    tar = subprocess.run(["tar", "-C", tree, "-cz", "."], check=True, capture_output=True).stdout
    (tmp_path / "x.tar.gz").write_bytes(tar)
    (expected,) = propolis.disk.build(tmp_path / "x.tar.gz", tmp_path / "a.raw")
    command = [PROPOLIS, "disk", "build", "tar:-", "-o", tmp_path / "b.raw"]
    subprocess.run(command, input=tar, check=True, capture_output=True)
    assert (tmp_path / "b.raw").read_bytes() == expected.path.read_bytes()


def test_a_disk_for_another_platform_is_made_if_it_is_there(busybox_image, tmp_path):
    assert "is for linux/amd64" in disk(
        "build", busybox_image, "-o", tmp_path / "x.raw", "--platform", "s390x", code=125
    )
