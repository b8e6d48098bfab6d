"""Full-screen programs: vim and htop in a machine, in a tmux of the test's own, which tells what a person would see."""

import re
import shutil
from pathlib import Path

import pytest

from propolis.host.directories import cache_directory
from propolis.testing.registry import Fault, FaultKind, Registry
from terminals import PROPOLIS, Tmux

KEYS = ("C-p", "C-q")


@pytest.fixture
def tmux():
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    with Tmux(rows=24, columns=80) as tmux:
        yield tmux


@pytest.fixture
def shell(tmux, editor_image, cli):
    """A bash in a machine, at its prompt."""
    tmux.enter(f"{PROPOLIS} run -it --name screen --hostname box -e 'PS1=box# ' {editor_image} bash --norc")
    try:
        tmux.expect(r"^box#$")
        yield tmux
    finally:
        cli("stop", "-t", "0", "screen")


def lines(screen):
    return [line.rstrip() for line in screen.splitlines()]


def test_vim_draws_types_follows_the_window_and_is_stopped_and_resumed(shell, cli):
    shell.enter("vim -u NONE -c 'set ruler showmode' /root/poem")
    shell.expect(r"^~\s*$")
    shell.type("i")
    shell.expect("-- INSERT --")
    shell.type("one line\rand another")
    screen = shell.expect("and another")
    assert lines(screen)[:3] == ["one line", "and another", "~"]
    assert len(lines(screen)) == 24
    shell.resize(40, 132)
    shell.press("Escape")
    screen = shell.expect(r"2,11\s+All")
    assert len(lines(screen)) == 40
    assert lines(screen)[38] == "~"
    assert lines(screen)[39].endswith("All")
    shell.press("C-z")  # job control
    shell.expect(r"Stopped\s+vim")
    shell.enter("jobs; tput lines; tput cols; tput colors")
    shell.expect(r"^40\n132\n(8|256)\n")
    shell.press("C-p", "C-p", "C-q")  # the first C-p is bash's, which fetches the last line
    shell.expect(r"left screen running")
    shell.expect(r"^\$$")
    assert cli("exec", "screen", "test", "-e", "/root/poem").returncode == 1
    shell.resize(30, 100)
    shell.enter(f"clear; {PROPOLIS} attach screen")
    shell.expect(r"\A\s*box# jobs")  # what the first C-p had fetched: bash draws its line anew for another window
    shell.press("C-c")
    shell.expect(r"^box#$")
    shell.enter("fg")
    screen = shell.expect("one line\nand another")
    assert len(lines(screen)) == 30
    shell.type(":wq\r")
    shell.expect(r"poem\s+box#$")
    assert cli("exec", "screen", "cat", "/root/poem").stdout == b"one line\nand another\n"
    shell.enter("exit 0")
    shell.expect(r"^\$$")


def test_a_screen_is_drawn_anew_for_who_comes_back(shell):
    shell.enter("htop")
    shell.expect(r"PID.*USER.*\n")
    shell.expect(r"F10")
    assert re.search(r"\x1b\[[0-9;]*m", shell.screen(colours=True))
    shell.press(*KEYS)
    screen = shell.expect(r"left screen running")
    assert "F10" not in screen  # the usual screen is back
    shell.enter(f"clear; {PROPOLIS} attach screen")
    shell.expect(r"PID.*USER.*\n")
    shell.expect(r"F10")
    shell.type("q")
    shell.expect(r"^box#")
    shell.enter("clear")
    shell.expect(r"\A\s*box#$")
    shell.enter("exit 3")
    shell.expect(r"^\$$")
    shell.enter("echo status $?")
    shell.expect("status 3")


def test_bars_leave_the_terminal_to_the_workload(tmux, busybox_image, tmp_path):
    (tmp_path / "kernels").symlink_to(cache_directory() / "kernels")
    layout, _, tag = busybox_image.removeprefix("oci:").partition(":")
    with Registry() as registry:
        registry.push(Path(layout), "app", source=tag or "latest")
        layer = max(registry.blobs, key=lambda digest: len(registry.blobs[digest]))
        again = {"Retry-After": "2"}
        registry.arm(Fault(kind=FaultKind.STATUS, request=layer, status=503, headers=again, times=0))
        tmux.enter(
            f"export PROPOLIS_CACHE={tmp_path}; clear; {PROPOLIS} run -it -e 'PS1=box# ' {registry.address}/app sh"
        )
        tmux.expect(r"^[0-9a-f]{12} [━╸╺]* +0.0 of|^[0-9a-f]{12} ━")
        registry.faults.clear()
        screen = tmux.expect(r"^box#$")
        assert not re.search("^[0-9a-f]{12}|layers|boot", screen, re.MULTILINE)
        tmux.enter("stty size; exit 7")
        tmux.expect(r"^24 80$")
        tmux.expect(r"^\$$")
        tmux.enter("echo $?")
        tmux.expect(r"^7$")
