"""A whole distribution in three layers: what people run."""

import pytest

import propolis


@pytest.fixture(scope="module")
def debian(debian_image):
    with propolis.Machine.start(debian_image, ["sleep", "3600"]) as machine:
        yield machine


def test_apt_perl_and_a_pipeline(debian):
    assert debian.exec(["apt-get", "--version"]).text.startswith("apt 2.")
    assert debian.exec(["perl", "-e", "print 6*7; exit 4"]) == propolis.Result(exit_code=4, stdout=b"42", stderr=b"")
    pipeline = debian.exec(
        ["bash", "-c", "set -o pipefail; seq 1000 | sort -r | head -n 3 | tr '\\n' ' '; exit ${PIPESTATUS[3]}"]
    )
    assert (pipeline.exit_code, pipeline.stdout) == (0, b"999 998 997 ")
    assert debian.exec(["bash", "-c", "false | true; exit ${PIPESTATUS[0]}"]).exit_code == 1


def test_the_layers_changes_are_seen(debian):
    script = "ls /opt; cat /opt/new/file; ls /usr/share/common-licenses; test ! -e /etc/motd; cat /srv/data/fifo"
    assert debian.exec(["sh", "-ec", script]).text == "new\ndeeper\nMINE\nnow a file\n"


def test_owners_modes_and_capabilities_are_the_images(debian):
    script = "stat -c '%a %u %g %F' /opt /srv/data/capable /tmp"
    assert debian.exec(["sh", "-c", script]).text.splitlines() == [
        "711 0 0 directory",
        "4755 0 0 regular file",
        "1777 0 0 directory",
    ]


def test_its_root_can_be_written_to(debian):
    script = "mv /usr/bin/perl /usr/bin/perl5 && rm -r /usr/share/doc && echo x > /etc/hostname && ls /usr/bin/perl5"
    assert debian.exec(["sh", "-c", script]).exit_code == 0
