"""Directories and files of this host in a machine, and memory as directories; through the real command line, mostly."""

import os
import shutil

import pytest

import propolis
from propolis.errors import Unsupported


@pytest.fixture
def shared(tmp_path):
    directory = tmp_path / "a,b dir"
    directory.mkdir()
    (directory / "file").write_text("from the host\n")
    return directory


def test_a_directory_is_shared_both_ways(cli, busybox_image, shared):
    script = (
        "cat /m/file; echo guest > /m/new; mkdir /m/d; ln -s file /m/link; mv /m/new /m/d/moved; chmod 600 /m/d/moved"
    )
    done = cli("run", "-q", "-v", f"{shared}:/m", busybox_image, "sh", "-c", script)
    assert (done.returncode, done.stdout) == (0, b"from the host\n"), done.stderr
    assert (shared / "d" / "moved").read_text() == "guest\n"
    assert (shared / "d" / "moved").stat().st_mode & 0o777 == 0o600
    assert (shared / "link").is_symlink()
    assert (shared / "d" / "moved").stat().st_uid == os.geteuid()


def test_read_only_is_the_hosts_word(cli, busybox_image, shared):
    script = "mount -o remount,rw /m; echo x > /m/x; rm /m/file; touch /m/file"
    done = cli("run", "-q", "--privileged", "-v", f"{shared}:/m:ro", busybox_image, "sh", "-c", script)
    assert done.returncode != 0
    assert [path.name for path in shared.iterdir()] == ["file"]


def test_links_lead_nowhere_but_into_the_machine(cli, busybox_image, shared, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (shared / "out").symlink_to(tmp_path / "secret")
    (shared / "up").symlink_to("../secret")
    script = "cat /m/out; cat /m/up; ln -s / /m/root; ls /m/root/; cat /m/../secret; cat /m/root/m/file"
    done = cli("run", "-q", "-v", f"{shared}:/m", busybox_image, "sh", "-c", script)
    assert b"secret" not in done.stdout
    assert b"from the host" in done.stdout
    assert b"init" not in done.stdout.split()


def test_a_single_file_is_shared_alone(cli, busybox_image, shared):
    (shared / "neighbour").write_text("not yours")
    script = "cat /etc/one; echo changed > /etc/one; ls /etc | grep -c neighbour; mount | grep /etc/one"
    done = cli("run", "-q", "-v", f"{shared / 'file'}:/etc/one", busybox_image, "sh", "-c", script)
    assert done.stdout.startswith(b"from the host\n0\n"), (done.stdout, done.stderr)
    assert (shared / "file").read_text() == "changed\n"
    done = cli("run", "-q", "-v", f"{shared / 'file'}:/etc/one:ro", busybox_image, "sh", "-c", "echo x > /etc/one")
    assert done.returncode != 0
    assert (shared / "file").read_text() == "changed\n"


def test_all_spellings_and_a_tmpfs_with_a_size(cli, busybox_image, shared):
    script = "cat /m/file; df -k /t | tail -1; stat -c %a /t; dd if=/dev/zero of=/t/x bs=1M count=3; ls /u"
    arguments = [
        *("--mount", f"type=bind,source={shared.parent / 'plain'},target=/m,readonly"),
        *("--mount", "type=tmpfs,dst=/u,tmpfs-size=1m"),
        *("--tmpfs", "/t:size=2m,mode=700"),
    ]
    shutil.copytree(shared, shared.parent / "plain")
    done = cli("run", "-q", *arguments, busybox_image, "sh", "-c", script)
    assert b"from the host" in done.stdout
    assert b" 2048 " in done.stdout
    assert b"700" in done.stdout
    assert b"No space left" in done.stderr


def test_the_distributions_kernel_shares_too(cli, busybox_image, shared, monkeypatch):
    monkeypatch.setenv("PROPOLIS_KERNEL", "distribution")
    done = cli("run", "-q", "-v", f"{shared}:/m", busybox_image, "sh", "-c", "cat /m/file; uname -r", timeout=300)
    assert done.stdout.startswith(b"from the host\n"), done.stderr
    assert b"propolis" not in done.stdout


def test_python_mounts_by_name(busybox_image, shared):
    plain = shared.rename(shared.with_name("plain"))
    assert propolis.run(busybox_image, ["cat", "/m/file"], volumes={plain: "/m"}).text == "from the host\n"


@pytest.mark.parametrize("confined", [{}, {"private_pids": True}])
def test_memory_comes_and_goes_and_directories_say_why_not(busybox_image, shared, confined):
    with propolis.Machine.start(busybox_image, ["sleep", "600"], backend="qemu", **confined) as machine:
        machine.mount(propolis.Mount(type="tmpfs", target="/var/new/place", size=1 << 20))
        assert machine.exec(["df", "-k", "/var/new/place"]).text.split()[-6:-4] == ["tmpfs", "1024"]
        machine.files.write("/var/new/place/file", b"seen")
        assert machine.exec(["cat", "/var/new/place/file"]).text == "seen"
        with pytest.raises(Unsupported, match="the qemu backend") as caught:
            machine.mount(propolis.Mount(source=shared, target="/m"))
        assert "at the start" in caught.value.hint
        machine.unmount("/var/new/place")
        assert machine.exec(["ls", "-A", "/var/new/place"]).text == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-v", "{tmp}/absent:/m"], "no such file or directory"),
        (["-v", "{tmp}"], "no mount"),
        (["-v", "{tmp}:relative"], "no place for a mount"),
        (["-v", "{tmp}:/m:rx"], "no option of a mount"),
        (["-v", "volume:/m"], "names a volume"),
        (["--mount", "type=bind,target=/m"], "needs a source"),
        (["--mount", "type=volume,source=x,target=/m"], "type volume"),
        (["--mount", "type=bind,source={tmp},target=/m,nonsense=1"], "nonsense"),
        (["--tmpfs", "/t:size=none"], "none"),
        (["--tmpfs", "/t:colour=red"], "colour"),
        (["-v", "{tmp}:/m", "-v", "{tmp}:/m"], "two mounts"),
        (["-v", "/dev/null:/m"], "neither a file nor a directory"),
    ],
)
def test_mounts_that_cannot_be_are_told_at_once(cli, busybox_image, tmp_path, arguments, expected):
    done = cli("run", *(argument.format(tmp=tmp_path) for argument in arguments), busybox_image, "true")
    assert done.returncode == 125
    assert expected in done.stderr.decode()
    assert len(done.stderr.splitlines()) <= 2


def test_an_image_that_has_something_else_there_is_told(cli, busybox_image, shared):
    done = cli("run", "-q", "-v", f"{shared}:/bin/busybox", busybox_image, "true")
    assert done.returncode == 125
    assert b"the image has a file at /bin/busybox" in done.stderr


def test_an_unreadable_directory_is_refused(cli, busybox_image, shared):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    shared.chmod(0)
    done = cli("run", "-q", "-v", f"{shared}:/m", busybox_image, "true")
    shared.chmod(0o755)
    assert b"you may not read it" in done.stderr
