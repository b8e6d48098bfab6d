import os
import subprocess

import pytest

PASSWD = """root:x:0:0:root:/root:/bin/sh
bob:x:1000:100:Bob:/home/bob:/bin/sh
7:x:1007:1007::/home/seven:/bin/sh
broken line
half:x:12
nohome:x:50:51::
"""
GROUP = """root:x:0:
users:x:100:
audio:x:29:root,bob
wheel:x:10:bob
7:x:1007:bobby
"""


@pytest.fixture(scope="session")
def program(compiled):
    if os.geteuid() != 0:
        pytest.skip("needs root for chroot")
    return compiled("account_dump", "account.c")


@pytest.fixture
def resolve(program, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)

    def run(user, *groups):
        command = [program, tmp_path, user, *groups]
        return subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=10, text=True).stdout

    run.root = tmp_path
    return run


@pytest.mark.parametrize(
    ("user", "answer"),
    [
        ("", "0 0 [29] /root"),
        ("root", "0 0 [29] /root"),
        ("bob", "1000 100 [29 10] /home/bob"),
        ("1000", "1000 100 [29 10] /home/bob"),
        ("bob:audio", "1000 29 [] /home/bob"),
        ("bob:5", "1000 5 [] /home/bob"),
        ("bob:", "1000 100 [29 10] /home/bob"),
        ("4242", "4242 0 [] /"),
        ("4242:4343", "4242 4343 [] /"),
        ("7", "7 0 [] /"),
        ("nohome", "50 51 [] /"),
        (":29", "0 29 [] /root"),
        ("ghost", "error: unable to find user ghost: no matching entries in passwd file"),
        ("half", "error: unable to find user half: no matching entries in passwd file"),
        ("bob:ghost", "error: unable to find group ghost: no matching entries in group file"),
        ("-1", "error: unable to find user -1: no matching entries in passwd file"),
        ("4294967295", "error: unable to find user 4294967295: no matching entries in passwd file"),
        ("x" * 300, "error: unable to find user: the name is longer than 255 bytes"),
    ],
)
def test_users_resolve_as_docker_resolves_them(resolve, user, answer):
    assert resolve(user) == answer


def test_more_groups_are_added_once(resolve):
    assert resolve("bob", "users", "29", "77") == "1000 100 [29 10 100 77] /home/bob"
    assert resolve("bob", "ghost").startswith("error: unable to find group ghost")


def test_numbers_need_no_files_and_names_do(resolve):
    (resolve.root / "etc/passwd").unlink()
    (resolve.root / "etc/group").unlink()
    assert resolve("5:6") == "5 6 [] /"
    assert resolve("") == "0 0 [] /"
    assert resolve("bob").startswith("error")


def test_files_that_are_no_files_do_not_hang(resolve):
    (resolve.root / "etc/passwd").unlink()
    os.mkfifo(resolve.root / "etc/passwd")
    assert resolve("5") == "5 0 [] /"


def test_a_line_without_end_is_passed_over(resolve):
    with (resolve.root / "etc/passwd").open("a") as file:
        file.write("x" * 200_000 + ":x:1:1::/:\nlast:x:9:9::/last:/bin/sh")
    assert resolve("last") == "9 9 [] /last"
