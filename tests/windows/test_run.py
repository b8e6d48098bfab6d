"""`propolis run` on Windows, from the image to the exit code: HCS is a stand-in, what boots is real."""

import json

import pytest

RUN = ("run", "--backend", "hyperv")


@pytest.fixture(autouse=True)
def _backend_is_there(rig):
    pytest.importorskip("propolis.hypervisor.hyperv.backend")


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
        process.wait(20)
        eventually(lambda: not hyperv.bridge.processes)
    assert len(hyperv.machines()) == 1
    done = hyperv.propolis(*RUN, busybox, "true")
    assert (done.returncode, done.stderr) == (0, b"")
    assert hyperv.machines() == set()


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


@pytest.mark.parametrize("hresult", ["0x8037011B", "0x80370102", "0x800705AA"])
def test_what_hcs_refuses_is_told_with_a_way_out(hyperv, busybox, hresult):
    faults = {"HcsStartComputeSystem": {"hresult": hresult}}
    done = hyperv.propolis(*RUN, busybox, "true", env={"PROPOLIS_HCS_FAULTS": json.dumps(faults)})
    told = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (125, b"")
    assert told[0].startswith("propolis: ")
    assert len(told) <= 2
    assert "Traceback" not in done.stderr.decode()


def test_a_guest_that_dies_while_it_boots_is_told(hyperv, busybox):
    done = hyperv.propolis(*RUN, busybox, "true", env={"PROPOLIS_HCS_FAULTS": json.dumps({"guest": "crash"})})
    assert done.returncode == 125
    assert b"Traceback" not in done.stderr


def test_doctor_finds_hyperv(hyperv):
    done = hyperv.propolis("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert checks["backend hyperv"]["verdict"] == "ok", checks
    assert checks["compute service"]["verdict"] == "ok"
