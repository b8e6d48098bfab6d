"""What is wrong on a Windows, or with what a user wants of it: told in two lines with a way out; nothing is left."""

import json
import socket
import subprocess

import pytest

import windows
from hcs.build import NOT_ON_WINDOWS_10

RUN = ("run", "--quiet", "--backend", "hyperv")


def refused(done, *words):
    """Whether propolis said that it failed, in those words; what it said."""
    told = done.stderr.decode()
    assert (done.returncode, done.stdout) == (125, b""), told
    assert told.startswith("propolis: ")
    assert len(told.splitlines()) <= 2
    assert [word for word in words if word not in told] == [], told
    return told


def test_a_windows_without_the_compute_service(hyperv, busybox, computecore):
    computecore()
    refused(hyperv.propolis(*RUN, busybox, "true"), "computecore.dll cannot be loaded", "VirtualMachinePlatform")


def test_a_library_that_lacks_what_is_needed(hyperv, busybox, computecore):
    computecore(without=("HcsGrantVmAccess",))
    refused(hyperv.propolis(*RUN, busybox, "true"), "lacks HcsGrantVmAccess", "update Windows")


def test_windows_10_lacks_nothing_that_is_needed(hyperv, busybox, computecore):
    computecore(without=NOT_ON_WINDOWS_10)
    done = hyperv.propolis(*RUN, busybox, "echo", "hello", env={"PROPOLIS_HCS_BUILD": "19041"})
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")


@pytest.mark.parametrize(
    ("call", "fault", "words"),
    [
        ("HcsGetServiceProperties", "0x8037011B", ("may not run virtual machines", "Hyper-V Administrators")),
        ("HcsGetServiceProperties", "0x80070426", ("Compute Service is stopped", "vmcompute")),
        ("HcsCreateComputeSystem", "0x80370102", ("hypervisor does not run", "hypervisorlaunchtype")),
        ("HcsCreateComputeSystem", "0x80070020", ("in use", "another machine")),
        ("HcsStartComputeSystem", "0x800705AA", ("not enough resources", "--memory")),
        ("HcsStartComputeSystem", "0x8037010D", ("does not know a setting", "update Windows")),
    ],
)
def test_what_windows_refuses_is_told_with_a_way_out(hyperv, busybox, call, fault, words):
    faults = {"PROPOLIS_HCS_FAULTS": json.dumps({call: {"hresult": fault}})}
    told = refused(hyperv.propolis(*RUN, busybox, "true", env=faults), *words, fault)
    assert "0x80370105" not in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--memory", "900g"), ("900g is more memory than this host has",)),
        (("--kernel", r"Z:\no\such\vmlinuz"), (r"Z:\no\such\vmlinuz",)),
        (("--volume", r"Z:\no\such:/m"), (r"Z:\no\such", "no such file or directory")),
        (("--volume", r"\\server\share\directory:/m"), (r"\\server\share\directory",)),
    ],
)
def test_what_a_user_asks_in_vain(hyperv, busybox, options, words):
    refused(hyperv.propolis(*RUN, *options, busybox, "true"), *words)


@pytest.fixture
def full(tmp_path):
    """A file system without any room. (Of a write that has room in part Wine's C library says EINVAL.)"""
    place = tmp_path / "full"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "full", place], check=False)
    if done.returncode:
        pytest.skip("mounting a small file system needs root")
    (place / "filling").write_bytes(bytes(64 << 10))
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("PROPOLIS_CACHE", ("no space left on the host while writing", r"full\place", "free space there")),
        ("PROPOLIS_DATA", ("machine records cannot be written", "disk is full", "check space", r"full\place")),
    ],
)
def test_a_drive_that_is_full(hyperv, busybox, full, variable, words):
    refused(hyperv.propolis(*RUN, busybox, "true", env={variable: hyperv.path(full / "place")}), *words)
    assert list((full / "place").rglob(".staged-*")) == []
    assert list((full / "place").glob("machines/*")) == []


@pytest.fixture
def network(tmp_path):
    """A directory of this host by its name in Windows' network, as Wine knows it."""
    share = windows.PREFIX / "dosdevices" / "unc" / "server" / "share"
    share.parent.mkdir(parents=True)
    share.symlink_to(tmp_path)
    yield r"\\server\share"
    share.unlink()
    share.parent.rmdir()
    share.parent.parent.rmdir()


def test_places_on_a_network_drive(hyperv, busybox, network, tmp_path):
    """Of a mount's source Wine says where its files really are, so its like is seen at unit level only."""
    done = hyperv.propolis(*RUN, busybox, "true", env={"PROPOLIS_DATA": rf"{network}\data"})
    refused(done, "lies on a network drive, where virtual machines have no access", "on a drive of this host")
    assert (tmp_path / "data" / "state.db").exists()
    assert list((tmp_path / "data").glob("machines/*")) == []


def test_paths_that_are_too_long(hyperv, busybox, tmp_path):
    """Wine makes such files, as a Windows does that was told to; Hyper-V takes none of them."""
    deep = tmp_path.joinpath(*["d" * 100] * 2)
    done = hyperv.propolis(*RUN, busybox, "true", env={"PROPOLIS_DATA": hyperv.path(deep / "data")})
    refused(done, "characters, more than 259", "nearer to the root")
    assert list((deep / "data").glob("machines/*")) == []


@pytest.mark.parametrize("fate", ["crash", "exit", "triple-fault", "service-disconnect"])
def test_a_guest_that_ends_while_it_boots(hyperv, busybox, fate):
    faults = {"PROPOLIS_HCS_FAULTS": json.dumps({"guest": fate})}
    refused(hyperv.propolis(*RUN, busybox, "true", env=faults), "ended before it was ready")


def test_a_guest_that_never_dials(hyperv, busybox):
    faults = {"PROPOLIS_HCS_FAULTS": json.dumps({"guest": "hang"})}
    done = hyperv.propolis(*RUN, "--boot-timeout", "6", busybox, "true", env=faults)
    refused(done, "did not answer within 6 s", "--boot-timeout")


def test_who_connects_beside_the_guest_is_turned_away(hyperv, busybox, agent_port):
    with hyperv.start("-m", "propolis", *RUN, "-i", busybox, "cat", stdin=subprocess.PIPE) as process:
        port = agent_port(process)
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"one\n"
        with socket.create_connection(("127.0.0.1", port), timeout=20) as intruder:
            assert intruder.recv(1) == b""
        stdout, stderr = process.communicate(b"two\n", timeout=60)
    assert (process.returncode, stdout, stderr) == (0, b"two\n", b"")


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n" + bytes(64)], ids=["silent", "nonsense"])
def test_who_connects_before_the_guest_gets_nothing_to_run(hyperv, busybox, agent_port, said):
    """Windows tells which machine connects, so it takes another process of this user's for none; here all are taken."""
    with hyperv.start("-m", "propolis", *RUN, "--boot-timeout", "6", busybox, "true") as process:
        with socket.create_connection(("127.0.0.1", agent_port(process)), timeout=60) as intruder:
            intruder.sendall(said)
            stdout, stderr = process.communicate(timeout=60)
    refused(subprocess.CompletedProcess((), process.returncode, stdout, stderr))
