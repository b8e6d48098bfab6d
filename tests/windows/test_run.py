"""`propolis run` on Windows, from the image to the exit code: HCS is a stand-in, what boots is real."""

import json

import pytest

RUN = ("run", "--backend", "hyperv")


@pytest.fixture
def shared(tmp_path):
    directory = tmp_path / "shared directory"
    directory.mkdir()
    (directory / "file").write_text("from the host\n")
    (directory / "gone").write_text("not yours\n")
    return directory


def test_output_streams_and_exit_code_are_the_workloads(hyperv, busybox):
    done = hyperv.propolis(*RUN, busybox, "sh", "-c", "echo out; echo err >&2; printf 'a\\r\\nb\\032'; exit 3")
    assert (done.returncode, done.stderr.decode(), done.stdout) == (3, "err\n", b"out\na\r\nb\x1a")


def test_input_comes_back_byte_for_byte(hyperv, busybox):
    data = bytes(range(256)) * 4096
    done = hyperv.propolis(*RUN, "-i", busybox, "cat", input=data)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert done.stdout == data


def test_hyperv_is_what_windows_takes_by_itself(hyperv, busybox):
    done = hyperv.propolis("run", "--quiet", busybox, "uname", "-s")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Linux\n", b"")


def test_from_python(hyperv, busybox):
    program = (
        "import propolis, sys\n"
        "with propolis.Machine.start(sys.argv[1], ['sleep', '600'], backend='hyperv') as machine:\n"
        "    print(machine.exec(['cat'], input=b'typed').text)\n"
        "result = propolis.run(sys.argv[1], ['sh', '-c', 'echo out; exit 3'])\n"
        "print(result.exit_code, result.stdout)\n"
    )
    done = hyperv.python("-c", program, busybox)
    assert (done.returncode, done.stdout.split()) == (0, [b"typed", b"3", rb"b'out\n'"]), done.stderr


def test_a_process_that_is_killed_takes_its_machine_with_it(hyperv, busybox, eventually):
    with hyperv.start("-m", "propolis", *RUN, busybox, "sh", "-c", "echo up; sleep 600") as process:
        assert process.stdout.readline() == b"up\n"
        assert hyperv.bridge.processes
        process.kill()
        process.wait(60)
        eventually(lambda: not hyperv.bridge.processes)
    assert len(hyperv.machines()) == 1
    done = hyperv.propolis(*RUN, busybox, "true")
    assert (done.returncode, done.stderr) == (0, b"")
    assert hyperv.machines() == set()


def test_a_directory_is_shared_both_ways(hyperv, busybox, shared):
    volume = f"{hyperv.path(shared)}:/m"
    script = "cat /m/file; mkdir /m/d; echo guest > /m/d/new; mv /m/d/new /m/d/moved; rm /m/gone"
    done = hyperv.propolis(*RUN, "-v", volume, busybox, "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"from the host\n", b"")
    assert (shared / "d" / "moved").read_text() == "guest\n"
    assert not (shared / "gone").exists()
    script = "cat /m/file; echo x > /m/x; rm -r /m/d; mount -o remount,rw /m; touch /m/y; ls /m"
    done = hyperv.propolis(*RUN, "--privileged", "-v", f"{volume}:ro", busybox, "sh", "-c", script)
    assert done.stdout == b"from the host\nd\nfile\n"
    assert done.stderr.count(b"Read-only file system") >= 2
    assert sorted(path.name for path in shared.iterdir()) == ["d", "file"]


def test_a_single_file_is_shared_alone(hyperv, busybox, shared):
    volume = f"{hyperv.path(shared / 'file')}:/etc/one"
    script = "cat /etc/one; echo changed > /etc/one; test -e /etc/gone || echo alone"
    done = hyperv.propolis(*RUN, "-v", volume, busybox, "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"from the host\nalone\n", b"")
    assert (shared / "file").read_text() == "changed\n"
    done = hyperv.propolis(*RUN, "-v", f"{volume}:ro", busybox, "sh", "-c", "cat /etc/one; echo x > /etc/one")
    assert (done.returncode, done.stdout) == (1, b"changed\n")
    assert (shared / "file").read_text() == "changed\n"


def test_twenty_runs_in_a_row_leave_nothing(hyperv, busybox):
    """In the tables of the service, as `hyperv` looks at its end, and in the ledger."""
    program = (
        "import propolis, sys\n"
        "for number in range(20):\n"
        "    print(propolis.run(sys.argv[1], ['sh', '-c', f'exit {number}'], backend='hyperv').exit_code)\n"
    )
    done = hyperv.python("-c", program, busybox)
    assert (done.returncode, [int(code) for code in done.stdout.split()]) == (0, [*range(20)]), done.stderr
    assert list((hyperv.directory / "data" / "hyperv").glob("????????-*.json")) == []


def test_a_debian_is_run(hyperv, debian):
    script = ". /etc/os-release; echo $ID; dpkg --list | grep -c ^ii; su -s /bin/sh -c id nobody"
    done = hyperv.propolis(*RUN, debian, "sh", "-c", script, timeout=600)
    distribution, packages, user = done.stdout.decode().splitlines()
    assert (done.returncode, distribution) == (0, "debian"), done.stderr
    assert int(packages) > 50
    assert user.startswith("uid=65534(nobody)")


def test_a_time_limit_ends_the_machine(hyperv, busybox):
    done = hyperv.propolis(*RUN, "--timeout", "15", busybox, "sleep", "600")
    assert done.returncode == 124, done.stderr
    assert b"as --timeout asked" in done.stderr


def test_names_in_any_script(hyperv, busybox, tmp_path):
    places = {name: hyperv.path(tmp_path / "Jürgen Müßig 用户" / name) for name in ("cache", "data")}
    environment = {f"PROPOLIS_{name.upper()}": place for name, place in places.items()}
    done = hyperv.propolis(*RUN, "-e", "NAME=grüße ☃", busybox, "sh", "-c", 'echo "$NAME"', env=environment)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, "grüße ☃\n", b"")
    assert list((tmp_path / "Jürgen Müßig 用户" / "cache" / "layers").glob("*.vhdx"))


def test_doctor_finds_hyperv(hyperv):
    done = hyperv.propolis("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert checks["backend hyperv"]["verdict"] == "ok", checks
    assert checks["compute service"]["verdict"] == "ok"
