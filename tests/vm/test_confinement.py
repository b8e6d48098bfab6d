"""What a workload may do in its machine, and that the machine stays usable whatever it does."""

import time

import anyio
import pytest

import propolis
from propolis.errors import BootFailed, InvalidArgument, ProcessError

DEFAULT = 0xA80425FB
"""The capabilities that docker leaves to root, as its own documentation has them."""


def facts(text):
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def test_root_has_what_docker_leaves_it(machine):
    status = facts(machine.exec(["cat", "/proc/self/status"]).text)
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == DEFAULT
    assert int(status["NoNewPrivs"]) == 0
    assert status["Seccomp"].strip() == "0"
    user = facts(machine.exec(["cat", "/proc/self/status"], user="1000").text)
    assert (int(user["CapEff"], 16), int(user["CapBnd"], 16)) == (0, DEFAULT)
    assert int(facts(machine.exec(["cat", "/proc/self/status"], privileged=True).text)["CapEff"], 16) > DEFAULT


@pytest.mark.parametrize(
    "script",
    [
        "mount -t tmpfs none /tmp",
        "date -s @0; [ $(date +%s) -lt 1000 ]",
        "hostname other",
        "echo 1 > /proc/sys/kernel/panic",
        "echo b > /proc/sysrq-trigger",
        "echo x > /sys/kernel/uevent_helper",
        "mkdir /sys/fs/cgroup/x",
        "mknod /tmp/d b 8 0 && head -c1 /tmp/d | grep -q never",
    ],
)
def test_what_root_may_not_do(machine, script):
    assert machine.exec(["sh", "-c", script]).exit_code != 0


def test_what_tells_too_much_is_hidden(machine):
    assert machine.exec(
        ["sh", "-c", "cat /proc/kcore /proc/keys /proc/timer_list; ls /sys/firmware /proc/acpi"]
    ).stdout in (
        b"",
        b"/proc/acpi:\n\n/sys/firmware:\n",
        b"/sys/firmware:\n\n/proc/acpi:\n",
        b"/sys/firmware:\n",
    )


def test_options_change_it(busybox_image):
    with propolis.Machine.start(
        busybox_image,
        ["sleep", "600"],
        cap_add=["NET_ADMIN"],
        cap_drop=["CHOWN", "MKNOD"],
        no_new_privs=True,
        seccomp=True,
        read_only=True,
        volumes=[propolis.Mount(type="tmpfs", target="/tmp", size=1 << 20)],
        sysctls={"kernel.domainname": "example.org"},
        ulimits={"nofile": "100:200", "core": 0},
        pids_limit=20,
        groups=["4242"],
        private_pids=True,
        dns=["192.0.2.1"],
    ) as machine:
        status = facts(machine.exec(["cat", "/proc/self/status"]).text)
        mask = int(status["CapEff"], 16)
        assert (mask >> 12 & 1, mask >> 0 & 1, mask >> 27 & 1) == (1, 0, 0)
        assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
        assert "4242" in status["Groups"].split()
        assert machine.exec(["sh", "-c", "ulimit -n; ulimit -Hn"]).text == "100\n200\n"
        assert machine.exec(["cat", "/proc/sys/kernel/domainname"]).text == "example.org\n"
        assert machine.exec(["sh", "-c", "echo x > /etc/x"]).exit_code != 0
        assert machine.exec(["sh", "-c", "echo x > /tmp/x"]).exit_code == 0
        assert machine.exec(["unshare", "-n", "true"]).exit_code != 0
        assert "init" not in machine.exec(["cat", "/proc/2/comm"]).text
        assert machine.exec(["sh", "-c", "cat /etc/resolv.conf"]).text == "nameserver 192.0.2.1\n"
        crowd = "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; echo all"
        assert b"all" not in machine.exec(["sh", "-c", crowd], timeout=60).stdout
        assert machine.exec(["true"]).exit_code == 0
        before = time.monotonic()
        machine.stop(300)
        assert time.monotonic() - before < 100, "all end when they are asked"


def test_the_agent_is_out_of_view_and_what_is_executed_shares_the_view(busybox_image):
    with propolis.Machine.start(busybox_image, ["sleep", "600"], private_pids=True) as machine:
        seen = machine.exec(["ps", "-o", "pid,args"]).text
        assert "sleep 600" in seen
        assert "kthreadd" not in seen
        assert machine.exec(["sh", "-c", "kill -9 1; sleep 0.1; echo alive"]).text == "alive\n"


def test_a_privileged_machine_may_do_everything(busybox_image):
    script = "mount -t tmpfs none /mnt && echo 1 > /proc/sys/kernel/panic && ls /sys/firmware | grep -q . && echo all"
    assert propolis.run(busybox_image, ["sh", "-c", f"mkdir -p /mnt; {script}"], privileged=True).text == "all\n"


@pytest.mark.parametrize(
    "options",
    [
        {"cap_add": ["NONSENSE"]},
        {"ulimits": {"nofile": "many"}},
        {"ulimits": {"nonsense": 1}},
        {"ulimits": {"nofile": (2, 1)}},
        {"sysctls": {"../etc/passwd": "x"}},
        {"dns": ["ns.example"]},
        {"volumes": ["/a:b"]},
        {"volumes": ["/nonexistent:/b"]},
        {"volumes": ["/etc:/x", "/usr:/x/"]},
        {"volumes": ["/etc:/"]},
    ],
)
def test_nonsense_is_told_before_anything_starts(busybox_image, options):
    with pytest.raises(InvalidArgument):
        propolis.run(busybox_image, ["true"], **options)


def test_a_kernel_parameter_that_does_not_exist_is_named(busybox_image):
    with pytest.raises(BootFailed) as caught:
        propolis.run(busybox_image, ["true"], sysctls={"kernel.no_such": "1"})
    assert "kernel.no_such" in caught.value.hint


def test_limits_beyond_reason_fail_the_process_alone(machine):
    with pytest.raises(ProcessError, match="limit"):
        machine.exec(["true"], ulimits={"nofile": (10**9, 10**9)})
    assert machine.exec(["sh", "-c", "umask"], umask=0o077).text.strip() == "0077"


def survives(machine):
    """The machine answers, in reasonable time for a loaded emulated guest."""
    before = time.monotonic()
    assert machine.exec(["true"], timeout=60).exit_code == 0
    assert machine.files.read("/etc/passwd")
    return time.monotonic() - before


def test_a_fork_bomb_leaves_the_agent_room(busybox_image):
    bomb = "b() { b | b & }; b; sleep 600"
    with propolis.Machine.start(busybox_image, ["sh", "-c", bomb], pids_limit=300) as machine:
        time.sleep(2)
        assert machine.files.read("/etc/passwd")
        machine.stats()


def test_a_workload_that_kills_everything_kills_only_itself(busybox_image):
    with propolis.Machine.start(busybox_image, ["sleep", "600"]) as machine:
        machine.exec(["sh", "-c", "kill -9 -1; kill -9 1; kill -TERM 1; kill -SEGV 1; kill -STOP 1"])
        survives(machine)


def test_thousands_of_children_that_nobody_waits_for_are_reaped(busybox_image):
    script = "i=0; while [ $i -lt 2500 ]; do (true &) ; i=$((i+1)); done"
    with propolis.Machine.start(busybox_image, ["sleep", "600"]) as machine:
        assert machine.exec(["sh", "-c", script], timeout=250).exit_code == 0
        survives(machine)
        deadline = time.monotonic() + 30
        while [process for process in machine.stats().processes if process.state == "Z"]:
            assert time.monotonic() < deadline


def test_no_memory_is_the_workloads_trouble(busybox_image):
    with propolis.Machine.start(busybox_image, ["sleep", "600"], memory="256MiB") as machine:
        eaten = machine.exec(["sh", "-c", "x=x; while :; do x=$x$x; done"], timeout=60)
        assert eaten.exit_code != 0
        survives(machine)
        machine.exec(["sh", "-c", "dd if=/dev/zero of=/dev/shm/fill bs=1M 2>/dev/null; rm /dev/shm/fill"], timeout=60)
        survives(machine)


def test_a_full_disk_is_the_workloads_trouble(machine):
    # eight gigabytes of emulated writing would take minutes: a file system of its own stands for it
    script = "cat /dev/zero > /dev/full; dd if=/dev/zero of=/dev/shm/x bs=1M count=1000 2>/dev/null; rm /dev/shm/x"
    machine.exec(["sh", "-c", script], timeout=60)
    survives(machine)


def test_two_hundred_at_once_all_end(busybox_image):
    async def main():
        async with propolis.AsyncMachine.start(busybox_image, ["sleep", "600"]) as machine:
            results = {}

            async def one(number):
                result = await machine.exec(["sh", "-c", f"echo {number}; exit {number % 7}"])
                results[number] = (result.text, result.exit_code)

            async with anyio.create_task_group() as tasks:
                for number in range(200):
                    tasks.start_soon(one, number)
            assert results == {number: (f"{number}\n", number % 7) for number in range(200)}

    anyio.run(main)


def test_a_hundred_megabytes_without_a_line_end_go_through(machine):
    process = machine.open(["sh", "-c", "head -c 100000000 /dev/zero"])
    total = 0
    while piece := process.stdout.receive(1 << 20):
        total += len(piece)
    process.stderr.aclose()
    assert total == 100_000_000
    assert process.wait().code == 0


def test_a_reader_that_never_reads_stops_the_process_and_nothing_else(machine):
    process = machine.open(["sh", "-c", "cat /dev/zero"])
    time.sleep(1)
    survives(machine)
    process.signal(9)
    process.stdout.aclose()
    process.stderr.aclose()
    assert process.wait().signal == 9


def test_arguments_of_two_megabytes_are_refused_by_the_guests_kernel(machine):
    with pytest.raises(ProcessError, match="too long"):
        machine.exec(["echo", "x" * (2 << 20)])
    with pytest.raises(InvalidArgument):
        machine.exec(["echo", "x" * (5 << 20)])
    with pytest.raises(InvalidArgument):
        machine.exec(["echo"], env={"A": "b\0c"})
    survives(machine)
