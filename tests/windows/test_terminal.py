"""A person at a console of Windows, and terminals of workloads: Wine draws its console on a pseudo-terminal."""

from pathlib import Path

INTERRUPT = Path(__file__).with_name("interrupt.py")
RUN = ("run", "--quiet", "--backend", "hyperv")


def test_a_workload_has_a_terminal_although_we_have_none(hyperv, busybox):
    done = hyperv.propolis(*RUN, "-t", busybox, "sh", "-c", "tty; test -t 0 -a -t 1 -a -t 2 && echo all; exit 4")
    assert (done.returncode, done.stderr) == (4, b"")
    tty, told = done.stdout.split()
    assert (tty[:9], told) == (b"/dev/pts/", b"all")


def test_a_terminal_to_type_at_needs_a_console(hyperv, busybox):
    done = hyperv.propolis(*RUN, "-it", busybox, "sh")
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"standard input is not a terminal" in done.stderr


def test_a_shell_is_used_at_a_console(hyperv, busybox):
    """What is printed comes in one piece, unlike what is typed; in place of a space Wine may move its cursor."""
    with hyperv.terminal(*RUN, "-it", busybox, "sh") as terminal:
        terminal.expect("# ")
        terminal.type("echo $((6*7)); stty size\r")
        terminal.expect("42\x1b")
        terminal.expect(r"31\D97")
        terminal.expect("# ")
        terminal.type("(exit 7)\r")
        terminal.expect("# ")
        terminal.type("\x04")
        assert terminal.wait() == 7
        assert terminal.is_restored()


def test_ctrl_c_is_the_workloads(hyperv, busybox):
    script = "trap 'echo trapped; exit 9' INT; echo ready; while true; do sleep 0.1; done"
    with hyperv.terminal("1", *RUN, busybox, "sh", "-c", script, program=(INTERRUPT,)) as terminal:
        terminal.expect("ready")
        terminal.expect("trapped")
        terminal.expect("exited:9")
        assert terminal.wait() == 0


def test_the_third_ctrl_c_gives_a_workload_up_that_ignores_them(hyperv, busybox):
    script = "trap 'echo no' INT; echo ready; while true; do sleep 0.1; done"
    with hyperv.terminal("3", *RUN, busybox, "sh", "-c", script, program=(INTERRUPT,)) as terminal:
        terminal.expect("exited:130")
        assert terminal.wait() == 0
