"""Files, trees, connections and figures of a running machine, through the Python interface."""

import os
import stat
import time

import pytest

import propolis
from propolis.agent.files import FileType
from propolis.errors import DiskError, FileError, FileMissing, InvalidArgument, MachineError
from propolis.image.tar_writer import TarWriter
from trees import walk


def test_what_is_written_is_read_again_and_told(machine):
    files, before = machine.files, time.time()
    files.write("/tmp/a", "häh\n", mode=0o640)
    assert files.read("/tmp/a") == "häh\n".encode()
    assert files.read("/tmp/a", offset=1, length=2) == "ä".encode()
    files.write("/tmp/a", b"more", append=True)
    status = files.stat("/tmp/a")
    assert (status.type, status.mode, status.uid, status.size) == (FileType.FILE, 0o640, 0, 9)
    assert before - 2 < status.mtime_ns / 1e9 < time.time() + 2
    files.remove("/tmp/a")
    assert not files.exists("/tmp/a")


def test_directories_are_made_listed_renamed_and_removed(machine):
    files = machine.files
    files.mkdir("/tmp/d/e/f", parents=True, mode=0o700)
    files.mkdir("/tmp/d/e/f", parents=True)
    files.write("/tmp/d/e/b\nad", b"")
    machine.exec(["ln", "-s", "nowhere", "/tmp/d/e/link"])
    machine.exec(["mkfifo", "/tmp/d/e/pipe"])
    found = {status.name: status for status in files.list("/tmp/d/e")}
    assert set(found) == {"f", "b\nad", "link", "pipe"}
    assert (found["link"].type, found["link"].target) == (FileType.SYMLINK, "nowhere")
    assert (found["f"].mode, found["pipe"].type) == (0o700, FileType.FIFO)
    files.rename("/tmp/d/e", "/tmp/d/x")
    with pytest.raises(FileError) as caught:
        files.remove("/tmp/d")
    assert caught.value.errno == 39
    files.remove("/tmp/d", recursive=True)
    assert not files.exists("/tmp/d")


def test_names_that_are_not_utf8_keep_their_bytes(machine):
    name = os.fsdecode(b"/tmp/\xff\xfe")
    machine.files.write(name, b"x")
    assert os.fsencode(next(s.name for s in machine.files.list("/tmp") if s.size == 1)) == b"\xff\xfe"
    machine.files.remove(name)


@pytest.mark.parametrize(
    ("call", "number"),
    [
        (lambda f: f.read("/nope"), 2),
        (lambda f: f.read("/etc"), 21),
        (lambda f: f.list("/etc/passwd"), 20),
        (lambda f: f.write("/nope/x", b"x" * 1_000_000), 2),
        (lambda f: f.mkdir("/etc"), 17),
        (lambda f: f.rename("/nope", "/tmp/x"), 2),
        (lambda f: f.stat("/proc/self/fd/99"), 2),
        (lambda f: f.read("/tmp/loop"), 40),
        (lambda f: f.read("/etc/passwd/../passwd"), 20),
        (lambda f: f.write("/sys/x", b""), 30),
        (lambda f: f.read("/" + "a" * 300), 36),
    ],
)
def test_what_cannot_be_done_says_so_with_its_errno(machine, call, number):
    machine.exec(["ln", "-sf", "loop", "/tmp/loop"])
    with pytest.raises(FileError) as caught:
        call(machine.files)
    assert caught.value.errno == number
    assert isinstance(caught.value, FileMissing) is (number == 2)
    assert isinstance(caught.value, OSError)
    assert machine.exec(["true"]).exit_code == 0


def test_a_path_with_a_nul_is_refused_here(machine):
    with pytest.raises(InvalidArgument):
        machine.files.read("/tmp/\0")


def test_a_tree_too_deep_for_descriptors_is_removed(machine):
    # a path of more than 4096 bytes cannot be given to any call
    script = "mkdir /tmp/deep; cd /tmp/deep; for i in $(seq 30); do mkdir -p $0 && cd -P $0 || exit 1; done"
    made = machine.exec(["sh", "-c", script, "/".join("d" * 100)])
    assert made.exit_code == 0, made.stderr
    machine.files.remove("/tmp/deep", recursive=True)
    assert not machine.files.exists("/tmp/deep")


@pytest.fixture
def tree(tmp_path):
    """One of everything."""
    root = tmp_path / "tree"
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "sub" / "file").write_bytes(os.urandom(300_000))
    (root / "sub" / "file").chmod(0o4755)
    os.link(root / "sub" / "file", root / "linked")
    (root / "dangling").symlink_to("no/where")
    os.mkfifo(root / "pipe")
    (root / ("n" * 200)).write_text("long")
    (root / os.fsdecode(b"\xff")).write_text("bytes")
    with (root / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(3 << 30)
        file.write(b"end")
    (root / "zero").touch()
    os.utime(root / "zero", ns=(0, -1_500_000_000))
    os.utime(root / "sub", ns=(0, 1_234_567_890_123_456_789))
    if os.geteuid() == 0:
        os.chown(root / "zero", 1000, 4_000_000)
        os.setxattr(root / "zero", "user.key", b"value\0\n")
    return root


def test_a_tree_comes_back_as_it_went_in(machine, tree, tmp_path):
    machine.copy_in(tree, "/srv/", owner="keep")
    allocated = machine.files.stat("/srv/tree/sparse").blocks * 512
    assert allocated < 1 << 20
    preserve = os.geteuid() == 0
    assert machine.copy_out("/srv/tree", tmp_path / "back", preserve=preserve) == 0
    ours, theirs = walk(tree), walk(tmp_path / "back")
    if not preserve:
        ours.pop(b"sub/file"), ours.pop(b"linked")
    assert {path: entry for path, entry in theirs.items() if path in ours} == ours
    assert (tmp_path / "back" / "sparse").stat().st_blocks * 512 < 1 << 20
    machine.files.remove("/srv", recursive=True)


def test_what_gives_rights_here_is_left_out(machine, tmp_path):
    machine.exec(
        ["sh", "-c", "mkdir /r; cp /bin/busybox /r/su; chmod 4755 /r/su; chown 5:5 /r/su; mknod /r/null c 1 3"]
    )
    assert machine.copy_out("/r", tmp_path) == 1
    status = (tmp_path / "r" / "su").stat()
    assert stat.S_IMODE(status.st_mode) == 0o755
    assert status.st_uid == os.geteuid()
    assert not (tmp_path / "r" / "null").exists()
    machine.files.remove("/r", recursive=True)


def test_single_files_go_where_they_are_sent(machine, tmp_path):
    (tmp_path / "one").write_bytes(b"1")
    machine.copy_in(tmp_path / "one", "/tmp")
    machine.copy_in(tmp_path / "one", "/tmp/two", owner="7:8")
    machine.copy_in(tmp_path / "one", "/new/place/")
    assert machine.exec(["cat", "/tmp/one", "/tmp/two", "/new/place/one"]).stdout == b"111"
    assert (machine.files.stat("/tmp/two").uid, machine.files.stat("/tmp/two").gid) == (7, 8)
    machine.copy_out("/tmp/two", tmp_path / "three")
    machine.copy_out("/etc/passwd", tmp_path)
    assert (tmp_path / "three").read_bytes() == b"1"
    assert b"root" in (tmp_path / "passwd").read_bytes()


def test_copies_that_cannot_be_leave_nothing(machine, tmp_path):
    (tmp_path / "there").mkdir()
    machine.copy_out("/etc", tmp_path)
    with pytest.raises(InvalidArgument, match="there already"):
        machine.copy_out("/etc", tmp_path)
    with pytest.raises(FileMissing):
        machine.copy_out("/nope", tmp_path / "x")
    with pytest.raises(InvalidArgument):
        machine.copy_in(tmp_path / "absent", "/tmp")
    with pytest.raises(FileError):
        machine.copy_in(tmp_path / "there", "/etc/passwd/x")
    with pytest.raises(DiskError):
        machine.copy_out("/etc", "/proc/x")
    assert {path.name for path in tmp_path.iterdir()} == {"there", "etc"}


def test_a_source_that_shrinks_is_told_and_half_of_it_does_not_stay(machine, tmp_path, monkeypatch):
    big = tmp_path / "big"
    big.write_bytes(b"x" * (40 << 20))
    data, passed = TarWriter.data, []

    def shrinking(self, view):
        passed.append(len(view))
        if sum(passed) > 10 << 20:
            os.truncate(big, 20 << 20)
        data(self, view)

    monkeypatch.setattr(TarWriter, "data", shrinking)
    with pytest.raises(MachineError, match="changed while it was read"):
        machine.copy_in(big, "/tmp/big")
    assert not machine.files.exists("/tmp/big")


def test_a_full_disk_in_the_machine_is_an_error_and_no_more(busybox_image, tmp_path):
    (tmp_path / "big").write_bytes(bytes(8 << 20))
    mounts = [propolis.Mount(type="tmpfs", target="/small", size=4 << 20)]
    with propolis.Machine.start(busybox_image, ["sleep", "600"], volumes=mounts) as machine:
        with pytest.raises(FileError) as caught:
            machine.copy_in(tmp_path / "big", "/small/")
        assert caught.value.errno == 28
        assert machine.files.list("/small") == []
        with pytest.raises(FileError):
            machine.files.write("/small/x", bytes(8 << 20))


def test_events_are_seen_as_they_happen(machine):
    machine.files.mkdir("/tmp/w/below", parents=True)
    with machine.files.watch("/tmp/w", recursive=True) as events:
        machine.files.write("/tmp/w/below/f", b"1")
        machine.files.rename("/tmp/w/below/f", "/tmp/w/g")
        machine.files.remove("/tmp/w/g")
        seen = []
        for event in events:
            seen.append((event.event, event.path))
            if event.event == "removed":
                break
    assert ("created", "/tmp/w/below/f") in seen
    assert ("written", "/tmp/w/below/f") in seen
    assert seen.index(("moved_from", "/tmp/w/below/f")) < seen.index(("moved_to", "/tmp/w/g"))
    with pytest.raises(FileMissing), machine.files.watch("/tmp/absent"):
        pass


def test_a_port_and_a_socket_in_the_machine_are_dialled(machine):
    server = machine.open(["sh", "-c", "while :; do nc -l -p 7000 -e cat; done"])
    deadline = time.monotonic() + 30
    while True:
        try:
            connection = machine.dial(7000)
            break
        except FileError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with connection:
        connection.send(b"x" * 200_000)
        connection.send_eof()
        received = b""
        while piece := connection.receive():
            received += piece
    assert received == b"x" * 200_000
    server.signal(9)
    with pytest.raises(FileError) as caught:
        machine.dial("127.0.0.1:9")
    assert caught.value.errno == 111
    with pytest.raises(FileMissing):
        machine.dial("/run/no.sock")
    with pytest.raises(InvalidArgument):
        machine.dial("nonsense")


def test_statistics_are_plausible(machine):
    before = machine.stats()
    machine.exec(["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"])
    after = machine.stats()
    assert after.uptime_ms > before.uptime_ms
    assert after.cpu_user_ms >= before.cpu_user_ms
    assert after.cpus == 1
    assert 100 << 20 < after.memory_total < 512 << 20
    assert 0 < after.memory_available <= after.memory_total
    assert 0 < after.disk_free <= after.disk_total
    assert {process.name for process in after.processes} >= {"init", "sleep"}


def test_the_clock_is_the_hosts(machine):
    def is_right():
        before = time.time()
        return before - 2 < float(machine.exec(["date", "+%s"]).text) < time.time() + 2

    assert is_right()
    assert machine.exec(["date", "-s", "@0"], privileged=True).exit_code == 0
    deadline = time.monotonic() + 60
    while not is_right():
        assert time.monotonic() < deadline, "the guest was not told the time"
        time.sleep(0.2)


def test_files_can_be_used_while_the_workload_floods(busybox_image):
    with propolis.Machine.start(busybox_image, ["sh", "-c", "yes"]) as machine:
        machine.files.write("/tmp/x", b"calm")
        assert machine.files.read("/tmp/x") == b"calm"
