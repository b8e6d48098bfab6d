"""Images and requests that are unlike all others: a clear word, or a machine that works all the same."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import images
import propolis
from propolis.errors import BootFailed, CommandNotFound, ProcessError
from propolis.testing.images import Directory, File, Symlink, write_layout

PROPOLIS = Path(sys.executable).with_name("propolis")


@pytest.fixture
def odd(tmp_path):
    """Reference of an image with busybox's layer below one that is given."""

    def make(*layers, config=None):
        write_layout(tmp_path / "odd", [images.busybox_layer(), *layers], config=config or {"Cmd": ["sh"]})
        return f"oci:{tmp_path / 'odd'}"

    return make


@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
@pytest.mark.parametrize("node", [File(content=b"x"), Symlink("/etc")], ids=["file", "link"])
def test_what_stands_where_the_kernel_shows_itself_is_told(odd, name, node):
    with pytest.raises(BootFailed) as caught:
        propolis.run(odd({name: node}), ["true"])
    assert f"at /{name}, where a directory is needed" in caught.value.hint


def test_a_root_that_nobody_may_write_to_is_no_hindrance(odd):
    image = odd({".": Directory(mode=0o555), "etc": Directory(mode=0o555)})
    result = propolis.run(image, ["sh", "-c", "stat -c %a /; echo x > /etc/x && cat /etc/x"])
    assert (result.exit_code, result.text) == (0, "555\nx\n")


def test_an_image_without_anything_is_told_by_its_command(tmp_path):
    write_layout(tmp_path / "empty", [{}], config={"Cmd": ["/bin/sh"]})
    with pytest.raises(CommandNotFound, match="/bin/sh"):
        propolis.run(f"oci:{tmp_path / 'empty'}")


def test_a_working_directory_of_the_image_is_made_and_one_of_the_caller_must_be_there(odd, machine):
    image = odd({"etc/x": b""}, config={"Cmd": ["pwd"], "WorkingDir": "/made/for/it"})
    assert propolis.run(image).text == "/made/for/it\n"
    with pytest.raises(ProcessError, match="/absent"):
        machine.exec(["pwd"], working_dir="/absent")


def test_a_user_that_nobody_knows_is_named(machine):
    with pytest.raises(ProcessError, match="nosuch"):
        machine.exec(["id"], user="nosuch")
    with pytest.raises(ProcessError, match="nogroup99"):
        machine.exec(["id"], user="0:nogroup99")
    assert machine.exec(["id", "-u"], user="4000000000").text == "4000000000\n"


def test_a_terminal_is_wanted_where_there_is_none(cli, busybox_image):
    done = cli("run", "-q", "-it", busybox_image, "sh")
    assert done.returncode == 125
    assert b"standard input is not a terminal" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_reboot_is_refused_unless_it_was_allowed_and_then_ends_the_machine(cli, busybox_image):
    done = cli("run", "-q", busybox_image, "sh", "-c", "reboot -f; echo still here")
    assert done.stdout == b"still here\n"
    done = cli("run", "-q", "--cap-add", "SYS_BOOT", busybox_image, "sh", "-c", "reboot -f; echo still here")
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"the machine went away" in done.stderr


@pytest.mark.heavy
def test_a_gigabyte_without_a_line_end_goes_through(cli, busybox_image):
    with subprocess.Popen(
        [PROPOLIS, "run", "-q", busybox_image, "head", "-c", "1000000000", "/dev/zero"], stdout=subprocess.PIPE
    ) as process:
        total = 0
        while piece := process.stdout.read(1 << 20):
            total += len(piece)
    assert (total, process.returncode) == (1_000_000_000, 0)


def unprivileged(*command):
    """`command` as somebody who can give files to nobody else: in a user namespace even root of this host is that."""
    if os.geteuid() != 0:
        return [*command], os.geteuid()
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--user", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this host lets nobody have a user namespace")
    return [unshare, "--user", "--map-user=1000", "--map-group=1000", *command], 1000


@pytest.mark.parametrize("user", ["root", "own", "other"])
def test_what_the_guest_makes_in_a_share_is_the_host_users(busybox_image, tmp_path, user):
    command, own = unprivileged(PROPOLIS, "run", "-q", "-v", f"{tmp_path}:/m")
    number = {"root": 0, "own": own, "other": 33}[user]
    tmp_path.chmod(0o777)
    script = (
        "echo x > /m/file; mkdir /m/d; ln -s file /m/link; stat -c %u /m/file; chmod 600 /m/file; stat -c %a /m/file"
    )
    done = subprocess.run(
        [*command, "-u", str(number), busybox_image, "sh", "-c", script], check=False, capture_output=True, timeout=120
    )
    # somebody else's to a guest's user who is neither root nor numbered as the host's is: docs/decisions.md
    mode = b"644" if user == "other" else b"600"
    assert done.stdout == b"%d\n%s\n" % (own, mode), done.stderr
    for name in ("file", "d", "link"):
        assert (tmp_path / name).lstat().st_uid == os.geteuid()
    assert (tmp_path / "file").stat().st_mode & 0o777 == int(mode, 8)
